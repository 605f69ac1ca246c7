// Tests with clients that disconnect or do not read, and with a server that is told to stop.
import { once } from 'node:events'
import { createServer as createHttpServer, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { createServer } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { answerText, ScriptedEngine, type ScriptedRequest } from './scripted_engine.js'
import { listen, post } from './tiny_model.js'

const ask = { model: 'tiny', prompt: 'Once', max_tokens: 60 }

/** @param times how often the request is sent at once, without waiting for an answer */
function open(url: string, body: object, times = 1, path = '/v1/completions'): Promise<Socket> {
  const { port, hostname } = new URL(url)
  const text = JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => {
      socket.write(
        `POST ${path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n\r\n${text}`.repeat(
          times,
        ),
      )
      resolve(socket)
    }).on('error', reject)
  })
}

/** Generates `text` again and again until aborted. */
function talkative(text: string) {
  return async ({ generation, ...request }: ScriptedRequest): Promise<void> => {
    let ended = false
    generation.result.then(() => {
      ended = true
    })
    while (!ended && !request.aborted) {
      for (const token of Buffer.from(text)) generation.push({ token, depth: 1, logprob: -1 })
      await sleep(1)
    }
  }
}

/** Resolves when all buffers between server and client are full. */
async function stalled(response: ServerResponse): Promise<void> {
  for (let before = -1, now = 0; before !== now || !response.writableNeedDrain; ) {
    await sleep(250)
    before = now
    now = response.socket!.bytesWritten
  }
}

describe('a client that vanishes', () => {
  it.each([{ stream: true }, { stream: false }])('ends its completions, stream: $stream', async ({ stream }) => {
    const engine = new ScriptedEngine()
    await using server = await listen({ engine })
    const socket = await open(server.url, { ...ask, n: 3, stream })
    await expect.poll(() => engine.requests.length).toBe(3)
    engine.requests[0]!.generation.push({ token: 97, depth: 1, logprob: -1 })
    socket.destroy()
    await expect.poll(() => engine.requests.every(({ aborted }) => aborted)).toBe(true)
  })

  it('makes room for others', async () => {
    const engine = new ScriptedEngine((request) => (engine.requests.length > 1 ? answerText('x')(request) : undefined))
    await using server = await listen({ engine, maxCompletions: 1 })
    const socket = await open(server.url, ask)
    await expect.poll(() => engine.requests.length).toBe(1)
    expect((await post(server.url, ask)).status).toBe(429)
    socket.destroy()
    await expect.poll(async () => (await post(server.url, ask)).status).toBe(200)
  })

  it.each([
    { stream: false, text: 'x' },
    { stream: true, text: 'x' },
    { stream: true, text: 'abcdefgh'.repeat(100) }, // waits until buffers have room
  ])('gives back what requests hold that were sent ahead, stream: $stream, $text', async ({ stream, text }) => {
    const times = 12
    const say = (request: ScriptedRequest) =>
      request.prompt.length > 1 ? talkative(text)(request) : answerText('x')(request)
    const engine = new ScriptedEngine(say)
    await using server = await listen({ engine, maxCompletions: times })
    const warnings: Error[] = []
    process.on('warning', (warning) => warnings.push(warning))
    const socket = await open(server.url, { ...ask, stream }, times)
    socket.on('error', () => {})
    await expect.poll(() => engine.requests.length).toBe(times)
    await sleep(50)
    socket.destroy()
    await expect.poll(() => engine.requests.every(({ aborted }) => aborted)).toBe(true)
    const others = async () => (await post(server.url, { ...ask, prompt: 'x', n: times })).status
    await expect.poll(others).toBe(200)
    expect(warnings).toEqual([])
  })
})

describe('a client that does not read', { timeout: 30_000 }, () => {
  it('is cut off after the stall timeout, and no more is written until then than buffers hold', async () => {
    const engine = new ScriptedEngine(talkative('abcdefgh'.repeat(100)))
    await using server = await listen({ engine, stallTimeoutMs: 300 })
    const socket = await open(server.url, { ...ask, stream: true })
    socket.pause()
    await expect.poll(() => engine.requests[0]?.aborted, { timeout: 20_000 }).toBe(true)
    socket.resume()
    let received = 0
    socket.on('data', (data) => {
      received += data.length
    })
    await new Promise((resolve) => socket.on('close', resolve).on('error', () => {}))
    expect(received).toBeGreaterThan(100_000)
    expect(received).toBeLessThan(32 * 2 ** 20)
  })

  it('is cut off with what is left of a whole answer', async () => {
    const engine = new ScriptedEngine(answerText('x'.repeat(2 ** 17)))
    await using server = await listen({ engine, stallTimeoutMs: 300 })
    const response = once(server.app.server, 'request').then(([, answer]) => answer as ServerResponse)
    const socket = await open(server.url, { ...ask, n: 2, logprobs: 1 })
    socket.pause()
    await once(await response, 'close')
    let received = ''
    socket
      .resume()
      .setEncoding('latin1')
      .on('data', (data) => {
        received += data
      })
    await new Promise((resolve) => socket.on('close', resolve).on('error', () => {}))
    const [, whole] = /content-length: (\d+)/.exec(received)!
    expect(received.length).toBeLessThan(Number(whole))
  })

  it('is cut off with what is left of the tokens of a text', async () => {
    const limits = { bodyLimitBytes: 2 ** 23, maxPromptCharacters: 2 ** 23 }
    await using server = await listen({ engine: new ScriptedEngine(), stallTimeoutMs: 300, ...limits })
    const response = once(server.app.server, 'request').then(([, answer]) => answer as ServerResponse)
    const socket = await open(server.url, { prompt: 'x'.repeat(2 ** 22) }, 1, '/tokenize')
    socket.pause()
    await once(await response, 'close')
    socket.destroy()
  })

  it('that only pauses gets everything', async () => {
    const text = 'abcdefgh'.repeat(5_000)
    const engine = new ScriptedEngine(answerText(text))
    await using server = await listen({ engine })
    const response = await post(server.url, { ...ask, stream: true })
    await sleep(300)
    const chunks = (await response.text()).split('\n\n').slice(0, -2)
    expect(chunks.map((chunk) => JSON.parse(chunk.slice(6)).choices[0].text).join('')).toBe(text)
  })
})

describe('a server that is mounted in another', () => {
  it('closes when its completions have ended', async () => {
    const engine = new ScriptedEngine()
    const app = createServer({ engine, tokenizer: Tokenizer.byteLevel(), modelName: 'tiny', drainTimeoutMs: 60_000 })
    await app.ready()
    const outer = createHttpServer((request, response) => app.routing(request, response)).listen(0, '127.0.0.1')
    await once(outer, 'listening')
    const answer = post(`http://127.0.0.1:${(outer.address() as AddressInfo).port}`, ask)
    await expect.poll(() => engine.requests.length).toBe(1)
    let closed = false
    const closing = app.close().then(() => {
      closed = true
    })
    await sleep(100)
    expect(closed).toBe(false)
    answerText('the end')(engine.requests[0]!)
    expect(await (await answer).json()).toMatchObject({ choices: [{ text: 'the end' }] })
    await closing
    outer.closeAllConnections()
    outer.close()
  })
})

describe('closing', { timeout: 30_000 }, () => {
  it('lets streams finish, takes nothing more, and cuts connections that fall idle', async () => {
    const engine = new ScriptedEngine()
    const server = await listen({ engine, drainTimeoutMs: 60_000 })
    const stream = await post(server.url, { ...ask, stream: true })
    const whole = post(server.url, ask)
    await expect.poll(() => engine.requests.length).toBe(2)
    const idle = await open(server.url, ask) // becomes idle after the server has closed idle connections
    await expect.poll(() => engine.requests.length).toBe(3)
    const idleEnds = once(idle.resume(), 'close')
    const closed = server.app.close()
    await sleep(50)
    await expect(post(server.url, ask)).rejects.toThrow()
    for (const request of engine.requests) answerText('the end')(request)
    const events = await stream.text()
    expect(events).toContain('"finish_reason":"stop"')
    expect(events.endsWith('data: [DONE]\n\n')).toBe(true)
    expect(await (await whole).json()).toMatchObject({ choices: [{ text: 'the end', finish_reason: 'stop' }] })
    await Promise.all([closed, idleEnds])
  })

  it('takes no more requests from a connection that is still open', async () => {
    const engine = new ScriptedEngine()
    const server = await listen({ engine, drainTimeoutMs: 60_000 })
    const socket = await open(server.url, ask)
    await expect.poll(() => engine.requests.length).toBe(1)
    let answers = ''
    socket.setEncoding('utf8').on('data', (data) => {
      answers += data
    })
    const closed = server.app.close()
    const body = JSON.stringify(ask)
    const head = `POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n`
    socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`)
    await sleep(50)
    const ended = new Promise((resolve) => socket.on('close', resolve))
    answerText('x')(engine.requests[0]!)
    await closed
    await ended
    expect(answers).toMatch(/^HTTP\/1\.1 200 OK/)
    expect(engine.requests.length).toBe(1)
  })

  it('does not wait for a connection that was opened and never used', async () => {
    const server = await listen({ engine: new ScriptedEngine(), drainTimeoutMs: 60_000 })
    const accepted = once(server.app.server, 'connection')
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
    await accepted
    const ends = once(socket.resume(), 'close')
    await Promise.all([server.app.close(), ends])
  })

  it('says with an answer that the connection takes no more requests', async () => {
    const engine = new ScriptedEngine()
    const server = await listen({ engine, drainTimeoutMs: 60_000 })
    const first = post(server.url, ask)
    await expect.poll(() => engine.requests.length).toBe(1)
    answerText('x')(engine.requests[0]!)
    expect((await first).headers.get('connection')).toBe('keep-alive')
    const second = post(server.url, ask)
    await expect.poll(() => engine.requests.length).toBe(2)
    const closed = server.app.close()
    await sleep(50)
    answerText('x')(engine.requests[1]!)
    expect((await second).headers.get('connection')).toBe('close')
    await closed
  })

  it('aborts what takes too long, and says so in the stream', async () => {
    const engine = new ScriptedEngine()
    const server = await listen({ engine, drainTimeoutMs: 100 })
    const stream = await post(server.url, { ...ask, stream: true })
    const whole = post(server.url, ask)
    await expect.poll(() => engine.requests.length).toBe(2)
    engine.requests[0]!.generation.push({ token: 97, depth: 1, logprob: -1 })
    const closed = server.app.close()
    expect(await stream.text()).toMatch(/"finish_reason":"abort"}\]}\n\ndata: \[DONE\]\n\n$/)
    const answer = await whole
    expect(answer.status).toBe(503)
    expect(await answer.json()).toMatchObject({ error: { type: 'server_error', code: 'shutting_down' } })
    await closed
  })

  it('cuts off at last who does not read', async () => {
    const engine = new ScriptedEngine(talkative('abcdefgh'.repeat(100)))
    const server = await listen({ engine, drainTimeoutMs: 100, stallTimeoutMs: 60_000 })
    const response = once(server.app.server, 'request').then(([, answer]) => answer as ServerResponse)
    const socket = await open(server.url, { ...ask, stream: true })
    socket.pause()
    await stalled(await response)
    const began = performance.now()
    await server.app.close()
    const seconds = (performance.now() - began) / 1000
    expect(seconds).toBeGreaterThan(2) // the time that the client still has to read
    expect(seconds).toBeLessThan(10)
    expect(engine.requests[0]!.aborted).toBe(true)
    socket.destroy()
  })
})
