// The engine: its options, aborts at every moment, errors of the native one, and what a closed one says.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { Engine, type EngineOptions } from '../../lib/engine.js'
import { MorError } from '../../lib/errors.js'
import { Model } from '../../lib/model.js'
import { eventKind } from '../../lib/native/engine.js'
import { FakeAddon } from './fake_addon.js'
import { collect, config } from './tiny_engine.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))

let model: Model
let engine: Engine
beforeEach(async () => {
  addon = new FakeAddon()
  model = await Model.create(config)
  engine = new Engine(model)
})

describe('abort', () => {
  it('before the start gives an empty result', async () => {
    const generation = engine.generate([10], { maxTokens: 5, signal: AbortSignal.abort() })
    expect(await generation.result).toMatchObject({ tokens: [], finishReason: 'abort' })
    expect(await collect(generation)).toEqual([])
  })

  it('in the middle keeps the tokens so far and frees the engine for the next', async () => {
    const controller = new AbortController()
    const generation = engine.generate([10], { maxTokens: 12, signal: controller.signal })
    const next = engine.generate([20], { maxTokens: 1 })
    const seen: number[] = []
    for await (const { token } of generation) {
      seen.push(token)
      if (seen.length === 2) controller.abort()
    }
    const { tokens, finishReason } = await generation.result
    expect(finishReason).toBe('abort')
    expect(tokens).toEqual(seen)
    expect(tokens.length).toBeLessThan(12)
    expect(await next.result).toMatchObject({ tokens: [21] })
  })

  it('ends all generations of one signal, and Node warns of no leak', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error) => warnings.push(warning)
    process.on('warning', onWarning)
    const { signal, abort } = ((controller) => ({ signal: controller.signal, abort: () => controller.abort() }))(
      new AbortController(),
    )
    const short = engine.generate([5], { maxTokens: 1, signal })
    const long = Array.from({ length: 12 }, () => engine.generate([10], { maxTokens: 1000, signal }))
    expect((await short.result).finishReason).toBe('length')
    abort()
    for (const { result } of long) expect((await result).finishReason).toBe('abort')
    await new Promise((resolve) => setImmediate(resolve))
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })

  it('of a waiting request never starts it', async () => {
    const first = engine.generate([10], { maxTokens: 3 })
    const second = engine.generate([20], { maxTokens: 3 })
    second.abort()
    expect(await second.result).toMatchObject({ tokens: [], finishReason: 'abort' })
    expect(await first.result).toMatchObject({ tokens: [11, 12, 13] })
  })

  it('follows from leaving the iteration', async () => {
    const generation = engine.generate([10], { maxTokens: 12 })
    for await (const _ of generation) break
    expect((await generation.result).finishReason).toBe('abort')
  })

  it('after the end changes nothing', async () => {
    const controller = new AbortController()
    const generation = engine.generate([10], { maxTokens: 1, signal: controller.signal })
    const result = await generation.result
    const abort = vi.spyOn(addon.engines[0]!, 'abort')
    controller.abort()
    generation.abort()
    expect(abort).not.toHaveBeenCalled()
    expect(await generation.result).toBe(result)
  })
})

describe('errors of the native engine', () => {
  it('end the result with finishReason error and are thrown by the iteration after its tokens', async () => {
    const generation = engine.generate([10], { maxTokens: 12 })
    const seen: number[] = []
    const iteration = (async () => {
      for await (const { token } of generation) {
        seen.push(token)
        if (seen.length === 1) addon.engines[0]!.fail([{ id: 1, code: 'OUT_OF_MEMORY', message: 'no KV blocks left' }])
      }
    })()
    await expect(iteration).rejects.toBeInstanceOf(MorError)
    const { tokens, finishReason, error } = await generation.result
    expect(finishReason).toBe('error')
    expect(error).toMatchObject({ code: 'OUT_OF_MEMORY', message: 'no KV blocks left' })
    expect(tokens).toEqual(seen)
  })

  it('reach the request they belong to, also beside those of a request that has ended', async () => {
    const generations = [10, 20].map((start) => engine.generate([start], { maxTokens: 9 }))
    addon.engines[0]!.fail([
      { id: 99, code: 'INTERNAL', message: 'nobody' },
      { id: 2, code: 'OUT_OF_MEMORY', message: 'second' },
      { id: 1, code: 'NON_FINITE', message: 'first' },
    ])
    const results = await Promise.all(generations.map((generation) => generation.result))
    expect(results.map(({ error }) => [error!.code, error!.message])).toEqual([
      ['NON_FINITE', 'first'],
      ['OUT_OF_MEMORY', 'second'],
    ])
  })

  it('are INTERNAL if the event makes no sense, and late events are dropped', async () => {
    const generation = engine.generate([10], { maxTokens: 12 })
    addon.engines[0]!.emit(1, 77, 5)
    addon.engines[0]!.emit(1, eventKind.token, 3)
    expect(await generation.result).toMatchObject({ tokens: [], finishReason: 'error', error: { code: 'INTERNAL' } })
  })

  it('in submit are thrown and leave nothing behind', () => {
    vi.spyOn(addon.engines[0]!, 'submit').mockImplementation(() => {
      throw Object.assign(new Error('no blocks'), { code: 'OUT_OF_MEMORY' })
    })
    expect(() => engine.generate([1], { maxTokens: 1 })).toThrow(expect.objectContaining({ code: 'OUT_OF_MEMORY' }))
  })
})

describe('close', () => {
  it('aborts what is under way; later calls say DISPOSED; twice is once', async () => {
    const running = engine.generate([10], { maxTokens: 12 })
    const waiting = engine.generate([20], { maxTokens: 12 })
    await Promise.all([engine.close(), engine.close()])
    expect((await running.result).finishReason).toBe('abort')
    expect((await waiting.result).finishReason).toBe('abort')
    const disposed = expect.objectContaining({ code: 'DISPOSED' })
    expect(() => engine.generate([1], { maxTokens: 1 })).toThrow(disposed)
    expect(() => engine.stats()).toThrow(disposed)
  })

  it('happens at the end of `await using`', async () => {
    const close = vi.spyOn(addon.engines[0]!, 'close')
    {
      await using scoped = engine
      expect(scoped.stats()).toMatchObject({ running: 0, waiting: 0 })
    }
    expect(close).toHaveBeenCalledOnce()
  })

  it('of the model ends generation too', async () => {
    await model.dispose()
    const disposed = expect.objectContaining({ code: 'DISPOSED' })
    expect(() => engine.generate([1], { maxTokens: 1 })).toThrow(disposed)
    expect(() => new Engine(model)).toThrow(disposed)
  })
})

it('passes complete options to the addon', () => {
  const createEngine = vi.spyOn(addon, 'createEngine')
  new Engine(model)
  new Engine(model, { maxBatchSize: 3, prefillChunk: 9, kvCacheBytes: 1e6, prefixCache: false })
  expect(createEngine.mock.calls.map(([, options]) => options)).toEqual([
    { maxBatchSize: 64, prefillChunk: 256, kvCacheBytes: 0, prefixCache: true },
    { maxBatchSize: 3, prefillChunk: 9, kvCacheBytes: 1e6, prefixCache: false },
  ])
})

it.each([
  [{ maxBatchSize: 0 }, /maxBatchSize is 0/],
  [{ kvCacheBytes: -1 }, /kvCacheBytes is -1/],
  [{ prefillChunk: 0 }, /prefillChunk is 0/],
  [{ prefixCache: 1 }, /prefixCache is 1; it must be true or false/],
  [{ maxBatch: 1 }, /unknown key "maxBatch" \(did you mean "maxBatchSize"/],
])('refuses the engine options %j', (options, message) => {
  expect(() => new Engine(model, options as EngineOptions)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) }),
  )
})
