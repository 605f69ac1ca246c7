// Everything a client can do wrong: each is answered with a clear error or a clean end, and the other streams go on.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Engine } from '../../../lib/engine.js'
import { createServer, type ErrorBody } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'
import { listen, makeTinyModel, post, type TestServer } from './tiny_model.js'

let server: TestServer
beforeAll(async () => {
  server = await listen({ bodyLimitBytes: 10_000, maxPromptTokens: 100, maxCompletions: 8 })
})
afterAll(() => server[Symbol.asyncDispose]())

const good = { model: 'tiny', prompt: 'Once', temperature: 0, max_tokens: 8 }

async function expectError(response: Response, status: number, error: Partial<ErrorBody['error']>): Promise<void> {
  expect(response.status).toBe(status)
  expect(response.headers.get('content-type')).toContain('application/json')
  const body = (await response.json()) as ErrorBody
  expect(Object.keys(body)).toEqual(['error'])
  expect(body.error).toEqual({ param: null, type: 'invalid_request_error', message: expect.any(String), ...error })
}

/** Sends bytes as they are and reads until the server closes. */
function raw(bytes: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const { port, hostname } = new URL(server.url)
    const socket = connect(Number(port), hostname, () => socket.write(bytes))
    socket.setEncoding('utf8').on('data', (data) => {
      answer += data
    })
    socket.on('end', () => resolve(answer)).on('error', reject)
  })
}

describe('while another stream goes on', () => {
  let witness: Promise<string>
  beforeAll(() => {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'any' })
    witness = (async () => {
      let text = ''
      const ask = { ...good, max_tokens: 200, stream: true } as const
      for await (const chunk of await client.completions.create(ask)) text += chunk.choices[0]!.text
      return text
    })()
  })
  afterAll(async () => {
    const whole = (await (await post(server.url, { ...good, max_tokens: 200 })).json()) as OpenAI.Completion
    expect(await witness).toBe(whole.choices[0]!.text)
  })

  it('malformed JSON', async () => {
    await expectError(await post(server.url, '{"model": "tiny", "prompt": '), 400, { code: 'invalid_json' })
    await expectError(await post(server.url, ''), 400, { code: 'invalid_json' })
    const nan = '{"model": "tiny", "prompt": "p", "temperature": NaN}'
    await expectError(await post(server.url, nan), 400, { code: 'invalid_json' })
  })

  it('a number that no double holds', async () => {
    const body = '{"model": "tiny", "prompt": "p", "temperature": 1e999}'
    await expectError(await post(server.url, body), 400, { code: 'invalid_value', param: 'temperature' })
  })

  it('bytes that are not UTF-8', async () => {
    const body = Buffer.from(JSON.stringify({ ...good, prompt: 'é' }), 'latin1')
    await expectError(await post(server.url, new Uint8Array(body)), 400, { code: 'invalid_utf8' })
  })

  it('JSON nested without end', async () => {
    const body = `{"model": "tiny", "prompt": ${'['.repeat(4000)}${']'.repeat(4000)}}`
    await expectError(await post(server.url, body), 400, { code: 'invalid_type', param: 'prompt' })
  })

  it('another content type', async () => {
    const response = await post(server.url, good, { 'content-type': 'text/plain' })
    await expectError(response, 415, { code: 'invalid_media_type' })
  })

  it('a model that is not here', async () => {
    const response = await post(server.url, { ...good, model: 'gpt' })
    await expectError(response, 404, { code: 'model_not_found', param: 'model' })
  })

  it('a field that is not supported', async () => {
    const response = await post(server.url, { ...good, suffix: 'the end' })
    await expectError(response, 400, { code: 'unsupported_field', param: 'suffix' })
  })

  it('a prompt over the limit, as text and as tokens', async () => {
    const response = await post(server.url, { ...good, prompt: 'x'.repeat(101) })
    await expectError(response, 400, { code: 'context_length_exceeded', param: 'prompt' })
    const tokens = await post(server.url, { ...good, prompt: Array(101).fill(3) })
    await expectError(tokens, 400, { code: 'context_length_exceeded', param: 'prompt' })
    const text = await post(server.url, { ...good, prompt: 'x'.repeat(1601) })
    await expectError(text, 400, {
      code: 'context_length_exceeded',
      param: 'prompt',
      message: 'the prompt has 1601 characters; this server takes at most 1600',
    })
  })

  it('a prompt and max_tokens over the context together', async () => {
    const response = await post(server.url, { ...good, max_tokens: 253 })
    await expectError(response, 400, {
      code: 'context_length_exceeded',
      param: 'max_tokens',
      message: 'the prompt has 4 tokens and max_tokens is 253, 257 together; the context of the model holds 256',
    })
    expect((await post(server.url, { ...good, max_tokens: 252 })).status).toBe(200)
  })

  it('a token that the vocabulary lacks', async () => {
    for (const token of [257, -1, 0.5, 1e300]) {
      const response = await post(server.url, { ...good, prompt: [[1], [token]], stream: true })
      await expectError(response, 400, { code: 'invalid_value', param: 'prompt' })
    }
  })

  it('more completions than the server ever takes', async () => {
    await expectError(await post(server.url, { ...good, n: 9 }), 400, { code: 'too_many_completions' })
  })

  it('a body over the limit', async () => {
    const response = await post(server.url, { ...good, prompt: 'x'.repeat(10_000) })
    await expectError(response, 413, { code: 'body_too_large' })
  })

  it('a path, a method and an address that are not there', async () => {
    await expectError(await fetch(`${server.url}/v1/chat/completions`), 404, { code: 'not_found' })
    await expectError(await fetch(`${server.url}/v1/completions`), 404, { code: 'not_found' })
    await expectError(await fetch(`${server.url}/%zz`), 400, { code: 'bad_request' })
  })

  it('what is not HTTP', async () => {
    const answer = await raw('hello\r\n\r\n')
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/)
    expect(JSON.parse(answer.split('\r\n\r\n')[1]!)).toMatchObject({ error: { type: 'invalid_request_error' } })
    expect(await raw(`GET /health HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 431 /)
  })
})

it('closes a connection that is not HTTP, though its client does not', async () => {
  await using own = await listen({ engine: new ScriptedEngine() })
  const accepted = once(own.app.server, 'connection').then(([socket]) => socket as Socket)
  const client = connect({ port: Number(new URL(own.url).port), host: '127.0.0.1', allowHalfOpen: true })
  client.write('hello\r\n\r\n')
  client.resume()
  const socket = await accepted
  await expect.poll(() => socket.closed).toBe(true)
  client.destroy()
})

it('puts no answer into a stream that goes on while bytes come that are not HTTP', async () => {
  const engine = new ScriptedEngine()
  await using own = await listen({ engine })
  const socket = connect(Number(new URL(own.url).port), '127.0.0.1')
  let received = ''
  socket.setEncoding('utf8').on('data', (data) => {
    received += data
  })
  const body = JSON.stringify({ ...good, stream: true })
  const head = 'POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n'
  socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`)
  await expect.poll(() => received).toContain('200 OK')
  const ends = once(socket, 'close')
  socket.write('hello\r\n\r\n')
  await ends
  expect(received).not.toContain('400 Bad Request')
  expect(engine.requests[0]!.aborted).toBe(true)
})

it('tells a full queue apart, and serves again when it is no longer full', async () => {
  const engine = new ScriptedEngine()
  await using busy = await listen({ engine, maxCompletions: 3 })
  const held = post(busy.url, { ...good, n: 2 })
  await expect.poll(() => engine.requests.length).toBe(2)
  const refused = await post(busy.url, { ...good, n: 2 })
  expect(refused.headers.get('retry-after')).toBe('1')
  await expectError(refused, 429, { code: 'queue_full', type: 'rate_limit_error' })
  const third = post(busy.url, good)
  await expect.poll(() => engine.requests.length).toBe(3)
  for (const request of engine.requests) answerText('x')(request)
  expect([(await held).status, (await third).status]).toEqual([200, 200])
  const next = post(busy.url, { ...good, n: 3 })
  await expect.poll(() => engine.requests.length).toBe(6)
  for (const request of engine.requests) answerText('x')(request)
  expect((await next).status).toBe(200)
})

it('starts none of a request’s completions where one is refused', async () => {
  const engine = new ScriptedEngine()
  await using own = await listen({ engine })
  expect((await post(own.url, { ...good, prompt: [[1], [999]] })).status).toBe(400)
  expect(engine.requests.map(({ aborted }) => aborted)).toEqual([true])
})

it('takes long lists for one completion, and refuses them for so many that their copies would fill the memory', async () => {
  const engine = new ScriptedEngine(answerText('x'))
  await using own = await listen({ engine })
  const many = { ...good, stop_token_ids: Array(10_000).fill(3) }
  const message =
    'stop_token_ids has 10000 entries for each of 112 completions, 1120000 together; this server takes at most 1048576'
  const refused = await post(own.url, { ...many, prompt: ['a', 'b'], n: 56 })
  await expectError(refused, 400, { code: 'invalid_value', param: 'stop_token_ids', message })
  const logit_bias = Object.fromEntries(Array.from({ length: 320 }, (_, token) => [token, 1]))
  const prompt = Array(4000).fill('a')
  await expectError(await post(own.url, { ...good, logit_bias, prompt }), 400, {
    code: 'invalid_value',
    param: 'logit_bias',
    message: expect.stringContaining('1280000 together'),
  })
  expect(engine.requests.length).toBe(0)
  expect((await post(own.url, { ...many, logit_bias, prompt: 'a', n: 3 })).status).toBe(200)
})

describe('a generation that fails', () => {
  const fail = async ({ generation }: ScriptedEngine['requests'][number]) => {
    const { MorError } = await import('../../../lib/errors.js')
    generation.push({ token: 104, depth: 1, logprob: -1 })
    generation.finish('error', new MorError('DEVICE_LOST', 'inner details'))
  }

  it('is a server error without inner details', async () => {
    await using own = await listen({ engine: new ScriptedEngine(fail) })
    const error = { type: 'server_error', code: 'generation_failed', message: 'the generation failed [DEVICE_LOST]' }
    await expectError(await post(own.url, good), 500, error)
  })

  it('ends a stream with the error, which the client throws, and the other choices with it', async () => {
    const engine = new ScriptedEngine((request) => (request === engine.requests[0] ? fail(request) : undefined))
    await using own = await listen({ engine })
    const client = new OpenAI({ baseURL: `${own.url}/v1`, apiKey: 'any' })
    const texts: string[] = []
    const read = async () => {
      for await (const { choices } of await client.completions.create({ ...good, n: 2, stream: true }))
        texts.push(choices[0]!.text)
    }
    await expect(read()).rejects.toThrow('DEVICE_LOST')
    expect(texts.join('')).toBe('h')
    expect(engine.requests[1]!.aborted).toBe(true)
  })
})

it('says that it is unavailable when its engine is closed', async () => {
  const engine = new ScriptedEngine()
  const app = createServer({ engine, tokenizer: Tokenizer.byteLevel(), modelName: 'tiny' })
  expect((await app.inject('/health')).statusCode).toBe(200)
  engine.closed = true
  for (const path of ['/health', '/metrics']) expect((await app.inject(path)).statusCode).toBe(503)
  await app.close()
})

it('names what the engine finds only when it takes a request in: tokens that all end it, and a cache that is too small', async () => {
  const every = Array.from({ length: 257 }, (_, token) => token)
  const ended = await post(server.url, { ...good, min_tokens: 2, stop_token_ids: every })
  await expectError(ended, 400, { code: 'invalid_value', param: 'stop_token_ids' })
  const free = { ...good, min_tokens: 2, stop_token_ids: every.slice(1), ignore_eos: true }
  expect((await post(server.url, free)).status).toBe(200)

  await using model = await makeTinyModel()
  await using engine = new Engine(model, { kvCacheBytes: 2 ** 17, maxBatchSize: 1, prefillChunk: 8 })
  await using small = await listen({ engine })
  const long = { ...good, prompt: 'x'.repeat(50), max_tokens: 200 }
  await expectError(await post(small.url, long), 400, { code: 'context_length_exceeded', param: 'prompt' })
  const stream = await (await post(small.url, { ...long, stream: true })).text()
  expect(stream).toMatch(/"message":"the request may need .*"code":"context_length_exceeded"/)
  expect((await post(small.url, good)).status).toBe(200)
})
