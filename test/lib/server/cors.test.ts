// Browsers of other origins: preflights, keys, streams and errors, with the server's option and with the framework's plugin.
import fastifyCors from '@fastify/cors'
import { describe, expect, it } from 'vitest'
import { createServer, type ServerOptions } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'
import { listen } from './tiny_model.js'

const origin = 'https://app.example'
const tokenizer = Tokenizer.byteLevel()
const ask = { model: 'tiny', prompt: 'Once', max_tokens: 8 }

function serve(options: Partial<ServerOptions> = {}) {
  return listen({ engine: new ScriptedEngine(answerText('hi')), apiKey: 'secret', ...options })
}

function preflight(url: string, from = origin) {
  const headers = {
    origin: from,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'authorization,content-type,x-stainless-lang',
  }
  return fetch(`${url}/v1/completions`, { method: 'OPTIONS', headers })
}

function complete(url: string, body: object, headers: Record<string, string> = { authorization: 'Bearer secret' }) {
  return fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { origin, 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
}

const allowed = (response: Response) => response.headers.get('access-control-allow-origin')

describe('the option corsOrigin', () => {
  it('answers a preflight without a key', async () => {
    await using server = await serve({ corsOrigin: ['https://other.example', origin] })
    const response = await preflight(server.url)
    expect([response.status, allowed(response)]).toEqual([204, origin])
    expect(response.headers.get('access-control-allow-methods')).toContain('POST')
    expect(response.headers.get('access-control-allow-headers')).toContain('authorization')
  })

  it('does not allow other origins', async () => {
    await using server = await serve({ corsOrigin: ['https://other.example', origin] })
    expect(allowed(await preflight(server.url, 'https://evil.example'))).toBeNull()
  })

  it('lets pages read answers, streams and errors', async () => {
    await using server = await serve({ corsOrigin: origin })
    const whole = await complete(server.url, ask)
    const stream = await complete(server.url, { ...ask, stream: true })
    const wrong = await complete(server.url, { ...ask, max_tokens: -1 })
    const locked = await complete(server.url, ask, {})
    const answers = [whole, stream, wrong, locked]
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 400, 401])
    expect(answers.map(allowed)).toEqual([origin, origin, origin, origin])
    expect(await stream.text()).toContain('data: [DONE]')
  })

  it('answers OPTIONS that is no preflight, too', async () => {
    await using server = await serve({ corsOrigin: origin })
    expect((await fetch(`${server.url}/v1/models`, { method: 'OPTIONS' })).status).toBe(204)
  })

  it('takes * for any origin', async () => {
    await using server = await serve({ corsOrigin: '*' })
    expect(allowed(await preflight(server.url))).toBe('*')
  })
})

it('a server without it says nothing of origins', async () => {
  await using server = await serve()
  expect(allowed(await complete(server.url, ask))).toBeNull()
  expect((await preflight(server.url)).status).toBe(401)
})

it("the framework's own plugin answers preflights without a key, also where it was registered last", async () => {
  const app = createServer({ engine: new ScriptedEngine(), tokenizer, modelName: 'tiny', apiKey: 'secret' })
  await app.register(fastifyCors, { origin })
  const response = await app.inject({
    method: 'OPTIONS',
    url: '/v1/completions',
    headers: { origin, 'access-control-request-method': 'POST' },
  })
  expect([response.statusCode, response.headers['access-control-allow-origin']]).toEqual([204, origin])
  const without = await app.inject({ method: 'POST', url: '/v1/completions', payload: ask, headers: { origin } })
  expect([without.statusCode, without.headers['access-control-allow-origin']]).toEqual([401, origin])
  await app.close()
})

it('a request that looks like a preflight needs the key for routes that take OPTIONS', async () => {
  const app = createServer({ engine: new ScriptedEngine(), tokenizer, modelName: 'tiny', apiKey: 'secret' })
  app.all('/private', () => 'private')
  const headers = { origin, 'access-control-request-method': 'POST' }
  expect((await app.inject({ method: 'OPTIONS', url: '/private', headers })).statusCode).toBe(401)
  await app.close()
})
