// The page's endpoints on a scripted engine: what they answer, refuse, and how a generation ends.
import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { MorError } from '../../../lib/errors.js'
import { createServer, type ErrorBody, type ServerOptions } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import type { ViewEvent } from '../../../lib/view/generate.js'
import { type ViewStats, viewPlugin } from '../../../lib/view/plugin.js'
import { answerText, ScriptedEngine, type ScriptedRequest } from '../server/scripted_engine.js'
import { loadFamily } from '../tokenizer/families.js'

let close: () => Promise<void>
afterEach(() => close())

async function start(onRequest: (request: ScriptedRequest) => void = () => {}, options: Partial<ServerOptions> = {}) {
  const engine = new ScriptedEngine(onRequest)
  const parts = { engine, tokenizer: options.tokenizer ?? Tokenizer.byteLevel(), modelName: 'tiny' }
  const app = createServer({ ...parts, drainTimeoutMs: 0, ...options })
  await app.register(viewPlugin, parts)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  close = () => app.close()
  return { app, engine, url }
}

function generate(url: string, body: unknown, options: RequestInit = {}): Promise<Response> {
  const headers = { 'content-type': 'application/json', ...options.headers }
  return fetch(`${url}/view/generate`, { method: 'POST', body: JSON.stringify(body), ...options, headers })
}

async function eventsOf(response: Response): Promise<ViewEvent[]> {
  const text = await response.text()
  expect(text.endsWith('\n\n')).toBe(true)
  return text
    .slice(0, -2)
    .split('\n\n')
    .map((line) => {
      expect(line.startsWith('data: ')).toBe(true)
      return JSON.parse(line.slice(6)) as ViewEvent
    })
}

const request = { prompt: 'ab', maxTokens: 5 }

describe('view/generate', () => {
  it('streams each token with its text and depth, characters whole', async () => {
    const { url, engine } = await start(answerText('é!', 'length'))
    const response = await generate(url, { ...request, temperature: 0.5, seed: 3, routerThreshold: 0.2 })
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    expect(await eventsOf(response)).toEqual([
      { type: 'token', text: '', depth: 2, logprob: -0xc3 / 128 },
      { type: 'token', text: 'é', depth: 2, logprob: -0xa9 / 128 },
      { type: 'token', text: '!', depth: 2, logprob: -0x21 / 128 },
      { type: 'end', text: '', finishReason: 'length' },
    ])
    const [asked] = engine.requests
    expect(asked!.prompt).toEqual([97, 98])
    expect(asked!.options).toMatchObject({ maxTokens: 5, temperature: 0.5, seed: 3, routerThreshold: 0.2 })
  })

  it('keeps the space between prompt and text', async () => {
    const tokenizer = await loadFamily('llama')
    const [there] = tokenizer.encode('there', { addSpecialTokens: false })
    const { url } = await start(
      ({ generation }) => {
        generation.push({ token: there!, depth: 1, logprob: -1 })
        generation.finish('length')
      },
      { tokenizer },
    )
    expect((await eventsOf(await generate(url, request)))[0]).toMatchObject({ text: ' there' })
  })

  it('shows what is left of a character at the end', async () => {
    const { url } = await start(({ generation }) => {
      generation.push({ token: 0xe2, depth: 1, logprob: -1 })
      generation.finish('stop')
    })
    expect((await eventsOf(await generate(url, request))).at(-1)).toEqual({
      type: 'end',
      text: '\ufffd',
      finishReason: 'stop',
    })
  })

  it('refuses what is wrong with the body, and says what', async () => {
    const { url } = await start()
    for (const [body, message] of [
      [{ ...request, prompt: 3 }, /prompt is 3; it must be a text/],
      [[], /the body is \[\]; it must be an object/],
      [{ ...request, signal: {} }, /unknown key "signal"/],
      [{ ...request, prompt: 'x'.repeat(64) }, /64 tokens; this server takes at most 63/],
    ] as const) {
      const response = await generate(url, body)
      expect(response.status).toBe(400)
      expect(((await response.json()) as ErrorBody).error.message).toMatch(message)
    }
  })

  it('does not blame the prompt for an option that the engine refuses', async () => {
    const { url, engine } = await start()
    engine.generate = () => {
      throw new MorError('INVALID_ARGUMENT', 'generate: topP is 2')
    }
    const response = await generate(url, request)
    expect(response.status).toBe(400)
    expect(((await response.json()) as ErrorBody).error).toMatchObject({ message: 'generate: topP is 2', param: null })
  })

  it('ends the generation when its reader leaves', async () => {
    const { url, engine } = await start(({ generation }) => generation.push({ token: 97, depth: 1, logprob: 0 }))
    const controller = new AbortController()
    const response = await generate(url, request, { signal: controller.signal })
    await response.body!.getReader().read()
    controller.abort()
    await expect.poll(() => engine.requests[0]!.aborted).toBe(true)
  })

  it('gives back what requests hold that were sent ahead', async () => {
    const { url, engine } = await start(({ generation }) => generation.push({ token: 97, depth: 1, logprob: 0 }))
    const body = JSON.stringify(request)
    const head = 'POST /view/generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n'
    const socket = connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {})
    socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`.repeat(3))
    await expect.poll(() => engine.requests.length).toBe(3)
    socket.destroy()
    await expect.poll(() => engine.requests.every(({ aborted }) => aborted)).toBe(true)
  })

  it('ends its generations when the server closes', async () => {
    const { app, url, engine } = await start(({ generation }) => generation.push({ token: 97, depth: 1, logprob: 0 }))
    const response = await generate(url, request)
    const rest = eventsOf(response)
    await expect.poll(() => engine.requests.length).toBe(1)
    await app.close()
    expect((await rest).at(-1)).toEqual({ type: 'end', text: '', finishReason: 'abort' })
  })

  it('takes no more than so many at once', async () => {
    const { url, engine } = await start()
    const controller = new AbortController()
    const running = Array.from({ length: 64 }, () => generate(url, request, { signal: controller.signal }))
    for (const one of running) one.catch(() => {})
    await expect.poll(() => engine.requests.length).toBe(64)
    expect((await generate(url, request)).status).toBe(429)
    controller.abort()
    await expect.poll(() => engine.requests.every(({ aborted }) => aborted)).toBe(true)
  })
})

describe('view', () => {
  it('tells the model and the engine', async () => {
    const { url, engine } = await start()
    const stats = (await (await fetch(`${url}/view/stats`)).json()) as ViewStats
    expect(stats.model).toEqual({
      name: 'tiny',
      recursions: 3,
      context: 64,
      kvCache: 'recursion_wise',
      router: 'expert_choice',
    })
    expect(stats.engine).toEqual(engine.stats())
  })

  it('serves the page without a key, and nothing else', async () => {
    const { url } = await start(() => {}, { apiKey: 'secret' })
    for (const [path, type] of [
      ['/', 'text/html; charset=utf-8'],
      ['/view/view.mjs', 'text/javascript; charset=utf-8'],
      ['/view/view.css', 'text/css; charset=utf-8'],
      ['/view/depths.css', 'text/css; charset=utf-8'],
    ]) {
      const response = await fetch(url + path)
      expect(response.status).toBe(200)
      expect(response.headers.get('content-type')).toBe(type)
      expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
    }
    expect((await fetch(`${url}/view/stats`)).status).toBe(401)
    expect((await generate(url, request)).status).toBe(401)
    const headers = { authorization: 'Bearer secret' }
    expect((await fetch(`${url}/view/stats`, { headers })).status).toBe(200)
  })
})
