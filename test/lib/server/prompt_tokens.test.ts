// Long prompts: they are encoded beside the event loop, and not to the end if nobody waits for them.
import { once } from 'node:events'
import { connect } from 'node:net'
import { beforeAll, describe, expect, it } from 'vitest'
import { ApiError } from '../../../lib/server/api_error.js'
import { encodePrompts } from '../../../lib/server/prompt_tokens.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { randomLetters, savePairTokenizer } from '../tokenizer/pair_tokenizer.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'
import { listen, post } from './tiny_model.js'

let tokenizer: Tokenizer
beforeAll(async () => {
  tokenizer = await Tokenizer.load(await savePairTokenizer())
})

const maxPromptCharacters = 2 ** 24
const long = randomLetters(5_000).repeat(12)
const endless = long.repeat(40)

describe('encodePrompts', { timeout: 60_000 }, () => {
  const limits = { maxPromptTokens: 8, maxPromptCharacters: 4000 }
  const { signal } = new AbortController()

  it('keeps texts and ids in order', async () => {
    const prompts = ['ab', [1, 2], 'a', [3], '']
    const bytes = { ...limits, tokenizer: Tokenizer.byteLevel() }
    const encoded = await encodePrompts(prompts, bytes, signal)
    expect(encoded.map((ids) => Array.from(ids))).toEqual([[97, 98], [1, 2], [97], [3], [256]])
  })

  it('refuses a prompt over a limit, with both values, and encodes none with too many characters', async () => {
    const counting = { ...limits, tokenizer: { ...tokenizer, encodeBatch: () => Promise.reject(new Error('encoded')) } }
    await expect(encodePrompts(['a', 'b'.repeat(4001)], counting, signal)).rejects.toMatchObject({
      status: 400,
      code: 'context_length_exceeded',
      message: expect.stringMatching(/4001 characters.*at most 4000/),
    })
    await expect(encodePrompts(['a-b-c-d-e'], { ...limits, tokenizer }, signal)).rejects.toMatchObject({
      status: 400,
      message: expect.stringMatching(/9 tokens.*at most 8/),
    })
  })

  it('gives up with the server or the client', async () => {
    const controller = new AbortController()
    const encoding = encodePrompts([endless], { ...limits, maxPromptCharacters, tokenizer }, controller.signal)
    controller.abort()
    await expect(encoding).rejects.toBeInstanceOf(ApiError)
    await expect(encoding).rejects.toMatchObject({ status: 503, code: 'shutting_down' })
  })
})

describe('a server', { timeout: 120_000 }, () => {
  it('answers others while it encodes a long prompt', async () => {
    await using server = await listen({ engine: new ScriptedEngine(), tokenizer, maxPromptCharacters })
    await post(server.url, { model: 'tiny', prompt: randomLetters(2000) }) // starts the thread
    const began = performance.now()
    let took: number | null = null
    const answer = post(server.url, { model: 'tiny', prompt: long }).then((response) => {
      took = performance.now() - began
      return response
    })
    const latencies: number[] = []
    while (took === null) {
      const asked = performance.now()
      expect((await fetch(`${server.url}/health`)).status).toBe(200)
      latencies.push(performance.now() - asked)
    }
    expect((await answer).status).toBe(400)
    expect(latencies.length).toBeGreaterThan(3)
    expect(Math.max(...latencies)).toBeLessThan(took / 3)
  })

  it('drops a prompt whose client has gone, and serves the next', async () => {
    const engine = new ScriptedEngine(answerText('x'))
    await using server = await listen({
      engine,
      tokenizer,
      maxPromptCharacters,
      maxCompletions: 1,
      bodyLimitBytes: 2 ** 24,
    })
    const { port, hostname } = new URL(server.url)
    const body = JSON.stringify({ model: 'tiny', prompt: endless })
    const socket = connect(Number(port), hostname)
    const arrived = once(server.app.server, 'request')
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`,
    )
    await new Promise((resolve) => socket.write(body, resolve))
    await arrived
    const next = () => post(server.url, { model: 'tiny', prompt: 'next' })
    await expect.poll(async () => (await next()).status, { timeout: 30_000 }).toBe(429)
    const known = engine.requests.length
    const began = performance.now()
    socket.destroy()
    await expect.poll(async () => (await next()).status, { timeout: 30_000 }).toBe(200)
    expect(engine.requests.length).toBe(known + 1)
    expect(performance.now() - began).toBeLessThan(20_000)
  })

  it('closes without waiting for a prompt to be encoded', async () => {
    const engine = new ScriptedEngine(answerText('x'))
    const limits = { maxPromptCharacters, maxCompletions: 1, bodyLimitBytes: 2 ** 24 }
    const server = await listen({ engine, tokenizer, ...limits, drainTimeoutMs: 100 })
    const answer = post(server.url, { model: 'tiny', prompt: endless })
    const other = async () => (await post(server.url, { model: 'tiny', prompt: 'other' })).status
    await expect.poll(other, { timeout: 30_000 }).toBe(429)
    const known = engine.requests.length
    const began = performance.now()
    await server.app.close()
    expect((await answer).status).toBe(503)
    expect(engine.requests.length).toBe(known)
    expect(performance.now() - began).toBeLessThan(20_000)
  })
})
