// What operators see of requests: log lines, ids, spans of OpenTelemetry, and the probes of health.
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import { context, propagation, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Engine } from '../../../lib/engine.js'
import { MorError } from '../../../lib/errors.js'
import { createServer, type ServerOptions } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { templateOf } from '../chat/load_template.js'
import { turns } from '../chat/templates.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'
import { listen, makeTinyModel, post } from './tiny_model.js'

const ask = { model: 'tiny', prompt: 'a secret', max_tokens: 5 }

/** A server whose log is kept. */
async function serveLogged(level: string, options: Partial<ServerOptions> = {}) {
  const lines: Record<string, unknown>[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)))
      done()
    },
  })
  const server = await listen({
    engine: new ScriptedEngine(answerText('an answer')),
    logger: { level, stream },
    ...options,
  })
  return { ...server, lines, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() }
}

describe('the log', () => {
  it('has the usage and the end of each request, by its id, and no text', async () => {
    await using server = await serveLogged('info')
    const headers = { 'x-request-id': 'client-7' }
    const whole = await post(server.url, { ...ask, n: 2 }, headers)
    const stream = await post(server.url, { ...ask, stream: true })
    await stream.text()
    await expect.poll(() => server.lines.filter(({ msg }) => msg === 'request completed').length).toBe(2)
    const ended = server.lines.filter(({ msg }) => msg === 'text_completion ended')
    expect(whole.headers.get('x-request-id')).toBe('client-7')
    const usage = { maxTokens: 5, promptTokens: 8, firstTokenMs: expect.any(Number), totalMs: expect.any(Number) }
    expect(ended).toMatchObject([
      { reqId: 'client-7', completionTokens: 18, finishReasons: ['stop', 'stop'], ...usage },
      { reqId: stream.headers.get('x-request-id'), completionTokens: 9, finishReasons: ['stop'], ...usage },
    ])
    expect(JSON.stringify(server.lines)).not.toMatch(/secret|an answer/)
  })

  it('says which field was at fault', async () => {
    await using server = await serveLogged('info')
    const wrong = await post(server.url, { ...ask, max_tokens: -5 })
    expect(server.lines.find(({ msg }) => String(msg).startsWith('refused'))).toMatchObject({
      reqId: wrong.headers.get('x-request-id'),
      status: 400,
      param: 'max_tokens',
      code: 'invalid_value',
      msg: expect.stringContaining('max_tokens is -5'),
    })
  })

  it('tells a client that has gone from a server that shuts down', async () => {
    const engine = new ScriptedEngine()
    const server = await serveLogged('info', { engine, drainTimeoutMs: 0 })
    const controller = new AbortController()
    const vanishing = fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(ask),
      signal: controller.signal,
    })
    const staying = post(server.url, ask)
    await expect.poll(() => engine.requests.length).toBe(2)
    controller.abort()
    await expect(vanishing).rejects.toThrow()
    const refusals = () => server.lines.filter(({ msg }) => String(msg).startsWith('refused'))
    await expect.poll(() => refusals().length).toBe(1)
    await server[Symbol.asyncDispose]()
    expect((await staying).status).toBe(503)
    expect(refusals()).toMatchObject([
      { status: 499, code: 'client_disconnected' },
      { status: 503, code: 'shutting_down' },
    ])
  })

  it('makes an id where the client’s is none that may stand in a log', async () => {
    await using server = await serveLogged('info')
    for (const id of ['a b', 'x'.repeat(200), '{"a":1}']) {
      const given = (await post(server.url, ask, { 'x-request-id': id })).headers.get('x-request-id')
      expect(given).toMatch(/^[0-9a-f-]{36}$/)
    }
  })

  it('has probes only where something is wrong', async () => {
    const engine = new ScriptedEngine()
    await using server = await serveLogged('info', { engine })
    for (const path of ['health', 'health/live', 'health/ready', 'metrics']) await fetch(`${server.url}/${path}`)
    expect(server.lines.filter(({ req }) => req !== undefined)).toEqual([])
    engine.closed = true
    await fetch(`${server.url}/health`)
    expect(server.lines.at(-1)).toMatchObject({ level: 50 })
  })
})

describe('traces', () => {
  const exporter = new InMemorySpanExporter()
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  beforeAll(() => {
    trace.setGlobalTracerProvider(provider)
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
    propagation.setGlobalPropagator(new W3CTraceContextPropagator())
  })
  afterAll(() => {
    trace.disable()
    context.disable()
    propagation.disable()
  })
  afterEach(() => exporter.reset())

  const seconds = ([whole, nanos]: [number, number]) => whole + nanos / 1e9
  const spans = () => exporter.getFinishedSpans()

  it('have a span of the request, and of each completion its queue, prefill and decoding', async () => {
    await using model = await makeTinyModel()
    await using engine = new Engine(model)
    const chatTemplate = await templateOf(turns)
    await using server = await listen({ engine, chatTemplate, traces: true })
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    const before = Date.now() / 1000
    const answer = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', traceparent, 'x-request-id': 'r1' },
      body: JSON.stringify({
        model: 'tiny',
        messages: [{ role: 'user', content: 'Hi' }],
        n: 2,
        max_tokens: 12,
        ignore_eos: true,
        temperature: 0.5,
        stream: true,
      }),
    })
    await answer.text()
    await expect.poll(() => spans().length).toBe(7)
    const root = spans().find(({ name }) => name === 'chat tiny')!
    expect(root.spanContext().traceId).toBe('0af7651916cd43dd8448eb211c80319c')
    expect(root.parentSpanContext?.spanId).toBe('b7ad6b7169203331')
    expect(root.attributes).toMatchObject({
      'gen_ai.operation.name': 'chat',
      'gen_ai.request.model': 'tiny',
      'gen_ai.request.max_tokens': 12,
      'gen_ai.request.temperature': 0.5,
      'gen_ai.request.choice.count': 2,
      'gen_ai.usage.input_tokens': 14,
      'gen_ai.usage.output_tokens': 24,
      'gen_ai.response.finish_reasons': ['length', 'length'],
      'http.response.status_code': 200,
      'mor.request.id': 'r1',
    })
    const after = Date.now() / 1000
    for (const index of [0, 1]) {
      const stages = ['queue', 'prefill', 'decode'].map(
        (name) => spans().find((span) => span.name === name && span.attributes['mor.choice.index'] === index)!,
      )
      for (const stage of stages) expect(stage.parentSpanContext?.spanId).toBe(root.spanContext().spanId)
      const times = stages.flatMap(({ startTime, endTime }) => [seconds(startTime), seconds(endTime)])
      expect(times).toEqual(times.toSorted((a, b) => a - b))
      expect(times[1]).toBe(times[2])
      expect(times[3]).toBe(times[4])
      expect(times[0]).toBeGreaterThan(before - 1)
      expect(times[5]).toBeLessThan(after + 1)
      expect(stages[1]!.attributes['gen_ai.usage.input_tokens']).toBe(14)
      expect(stages[2]!.attributes['gen_ai.usage.output_tokens']).toBe(12)
      expect(stages[2]!.attributes['mor.depth.mean']).toBeGreaterThanOrEqual(0)
    }
  })

  it('say what was refused, and what failed', async () => {
    const fail = ({ generation }: ScriptedEngine['requests'][number]) =>
      generation.finish('error', new MorError('DEVICE_LOST', 'gone'))
    await using server = await listen({ engine: new ScriptedEngine(fail), traces: true })
    await post(server.url, { ...ask, max_tokens: -1 })
    await post(server.url, ask)
    await (await post(server.url, { ...ask, stream: true })).text()
    await expect.poll(() => spans().length).toBe(3)
    const [refused, failed, broken] = spans()
    expect(refused!.attributes).toMatchObject({ 'http.response.status_code': 400, 'error.type': 'invalid_value' })
    expect(refused!.status.code).toBe(0)
    expect(failed!.attributes).toMatchObject({ 'http.response.status_code': 500, 'error.type': 'generation_failed' })
    expect([failed!.status.code, broken!.status.code]).toEqual([2, 2])
  })

  it('have no failure where the client has gone', async () => {
    const engine = new ScriptedEngine()
    await using server = await listen({ engine, traces: true })
    for (const stream of [false, true]) {
      const known = engine.requests.length
      const controller = new AbortController()
      const answer = fetch(`${server.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ ...ask, stream }),
        signal: controller.signal,
      }).then((response) => response.text())
      await expect.poll(() => engine.requests.length).toBe(known + 1)
      controller.abort()
      await expect(answer).rejects.toThrow()
    }
    const roots = () => spans().filter(({ name }) => name === 'text_completion tiny')
    await expect.poll(() => roots().length).toBe(2)
    expect(roots().map(({ status }) => status.code)).toEqual([0, 0])
    expect(roots().map(({ attributes }) => attributes['http.response.status_code'])).toEqual([499, 200])
  })

  it('stand below the span that is active', async () => {
    await using server = await listen({ engine: new ScriptedEngine(answerText('x')), traces: true })
    const outer = trace.getTracer('test').startSpan('outer')
    const inject = async () => await server.app.inject({ method: 'POST', url: '/v1/completions', payload: ask })
    const answer = await context.with(trace.setSpan(context.active(), outer), inject)
    expect(answer.statusCode).toBe(200)
    expect(spans().find(({ name }) => name === 'text_completion tiny')!.parentSpanContext?.spanId).toBe(
      outer.spanContext().spanId,
    )
  })

  it('are not made where they are not asked for', async () => {
    await using server = await listen({ engine: new ScriptedEngine(answerText('x')) })
    await post(server.url, ask)
    expect(spans()).toEqual([])
  })
})

describe('the probes', () => {
  it('of life stay well while a mounted server drains, those of readiness do not', async () => {
    const engine = new ScriptedEngine()
    const tokenizer = Tokenizer.byteLevel()
    const app = createServer({ engine, tokenizer, modelName: 'tiny', apiKey: 'secret', drainTimeoutMs: 60_000 })
    await app.ready()
    const outer = createHttpServer((request, response) => app.routing(request, response)).listen(0, '127.0.0.1')
    await once(outer, 'listening')
    const url = `http://127.0.0.1:${(outer.address() as AddressInfo).port}`
    const probe = async (path: string) => (await fetch(`${url}/${path}`)).status
    const all = () => Promise.all(['health', 'health/ready', 'health/live'].map(probe))
    expect(await all()).toEqual([200, 200, 200])
    const held = post(url, ask, { authorization: 'Bearer secret' })
    await expect.poll(() => engine.requests.length).toBe(1)
    const closing = app.close()
    await expect.poll(all).toEqual([503, 503, 200])
    answerText('x')(engine.requests[0]!)
    expect((await held).status).toBe(200)
    await closing
    outer.closeAllConnections()
    outer.close()
  })

  it('are unwell where the engine is closed', async () => {
    const engine = new ScriptedEngine()
    await using server = await listen({ engine })
    engine.closed = true
    for (const path of ['health', 'health/ready', 'health/live'])
      expect((await fetch(`${server.url}/${path}`)).status).toBe(503)
  })
})
