// The real addon's engines: events that agree with a forward pass, errors, aborts, and how engines end. The addon must have
// been built.
import { describe, expect, it, vi } from 'vitest'
import { errorCodes } from '../../lib/errors.js'
import { eventKind, eventStride } from '../../lib/native/engine.js'
import type { NativeModel } from '../../lib/native/model.js'
import {
  addon,
  addonFixture,
  configs,
  engineOptions,
  forwardOptions,
  generateParams,
  nativeConfig,
  patternTokens,
  slowConfig,
  slowStep,
  tinyStep,
} from './addon_support.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const { newModel, newTrainer } = addonFixture()

describe('engine', () => {
  type Events = { id: number; kind: number; token: number; depth: number; logprob: number }[]

  function collect(model: NativeModel, maxBatchSize = 4, kvCacheBytes = 0) {
    const events: Events = []
    /** Requests and the seconds that they ran before the first token. */
    const prefills: [id: number, seconds: number][] = []
    const messages: string[] = []
    const waiting: (() => void)[] = []
    const onEvents = (packed: Float64Array, errors: string[] = []) => {
      for (let i = 0; i < packed.length; i += eventStride) {
        const [id, kind, token, depth, logprob] = packed.subarray(i, i + eventStride) as unknown as number[]
        if (kind === eventKind.prefill) prefills.push([id!, logprob!])
        else events.push({ id: id!, kind: kind!, token: token!, depth: depth!, logprob: logprob! })
      }
      messages.push(...errors)
      for (const wake of waiting.splice(0)) wake()
    }
    const engine = addon.createEngine(model, { ...engineOptions, maxBatchSize, kvCacheBytes }, onEvents)
    const until = async (done: () => boolean) => {
      while (!done()) await new Promise<void>((resolve) => waiting.push(resolve))
    }
    const finished = (id: number) => events.some((event) => event.id === id && event.kind !== eventKind.token)
    return { engine, events, prefills, messages, until, finished }
  }

  it('counts in the memory of its model, with the blocks of the cache that belong to no request, until it is closed', async () => {
    const model = await newModel(nativeConfig('token choice, shared'))
    const before = model.memory()
    const { engine, until, finished } = collect(model)
    engine.submit(1, patternTokens(6), generateParams)
    await until(() => finished(1))
    const { kvCache, activations } = model.memory()
    expect(kvCache).toBeGreaterThan(engine.stats().kvBytesTotal)
    expect(activations).toBeGreaterThan(before.activations!)
    await engine.close()
    expect(model.memory()).toEqual(before)
  })

  it('says what is taken and what to lower when the KV cache has no room', async () => {
    const { engine, events, messages, until, finished } = collect(await newModel(nativeConfig('vanilla')), 1, 2 ** 50)
    engine.submit(1, patternTokens(6), generateParams)
    await until(() => finished(1))
    expect(events).toMatchObject([{ kind: eventKind.error, token: errorCodes.indexOf('OUT_OF_MEMORY') }])
    expect(messages[0]).toMatch(
      /no room for a KV cache of \d+ bytes .*; lower kvCacheBytes. By purpose: parameters \d+ bytes \(less with a smaller model\)\.$/,
    )
  })

  it('is not made where the bytes for keys and values hold no block', async () => {
    const model = await newModel(nativeConfig('vanilla'))
    const refusal = (bytes: number) => {
      try {
        collect(model, 1, bytes)
      } catch (error) {
        return error as Error & { code: string }
      }
      throw new Error(`an engine with ${bytes} bytes was made`)
    }
    const { code, message } = refusal(1)
    expect(code).toBe('INVALID_ARGUMENT')
    const [, bytes, block] = /^kvCacheBytes is (\d+), but one block of keys and values takes (\d+); raise it/.exec(
      message,
    )!
    expect(bytes).toBe('1')
    expect(refusal(Number(block) - 1).message).toContain(`one block of keys and values takes ${block}`)
    collect(model, 1, Number(block))
  })

  it('is not made where copies of queries would take every block', async () => {
    const model = await newModel(nativeConfig('token choice, shared'))
    expect(() => collect(model, 64, 2 ** 12)).toThrow(
      expect.objectContaining({
        code: 'OUT_OF_MEMORY',
        message: expect.stringMatching(/maxBatchSize 64 and prefillChunk/),
      }),
    )
  })

  it.each(Object.keys(configs) as (keyof typeof configs)[])(
    'generates greedily what forward says: %s',
    async (name) => {
      const config = nativeConfig(name)
      const model = await newModel(config)
      const trainer = newTrainer(model)
      for (let i = 0; i < 20; i++) await tinyStep(trainer)
      const { engine, events, until, finished } = collect(model)
      const prompt = patternTokens(6)
      engine.submit(1, prompt, generateParams)
      await until(() => finished(1))
      const generated = events.filter(({ kind }) => kind === eventKind.token)
      expect(generated).toHaveLength(8)
      expect(events.at(-1)).toMatchObject({ id: 1, kind: eventKind.length })
      const all = Int32Array.from([...prompt, ...generated.map(({ token }) => token)])
      const { logits, depths } = await model.forward(all, 1, all.length, { ...forwardOptions, routing: 'threshold' })
      generated.forEach(({ token, depth, logprob }, i) => {
        const at = prompt.length + i - 1
        const row = logits.subarray(at * config.vocabSize, (at + 1) * config.vocabSize)
        expect(token).toBe(row.indexOf(Math.max(...row)))
        expect(depth).toBe(depths[at])
        const sum = row.reduce((total, value) => total + Math.exp(value - row[token]!), 0)
        expect(logprob).toBeCloseTo(-Math.log(sum), 3)
      })
      const { depthHistogram, ...stats } = engine.stats()
      expect(stats).toMatchObject({ running: 0, waiting: 0, tokensGenerated: 8, promptTokens: 6, kvBlocksUsed: 0 })
      expect(stats.kvBlocksCached + stats.kvBlocksFree).toBe(stats.kvBlocksTotal)
      expect(depthHistogram).toHaveLength(config.numRecursions)
      expect(depthHistogram.reduce((sum, tokens) => sum + tokens)).toBe(6 + 8 - 1)
      await engine.close()
    },
  )

  it('takes biases, penalties and a least number of tokens', async () => {
    const { engine, events, until } = collect(await newModel(nativeConfig('expert choice')))
    const prompt = patternTokens(6)
    let id = 0
    const tokensOf = async (params: object): Promise<number[]> => {
      const request = ++id
      engine.submit(request, prompt, { ...generateParams, ...params })
      await until(() => events.some((event) => event.id === request && event.kind === eventKind.length))
      return events.filter((event) => event.id === request && event.kind === eventKind.token).map(({ token }) => token)
    }
    const [first] = await tokensOf({})
    const bias = (token: number, value: number) => ({ tokens: Int32Array.of(token), values: Float32Array.of(value) })
    expect(await tokensOf({ logitBias: bias(first!, -100) })).not.toContain(first)
    expect(new Set(await tokensOf({ logitBias: bias(5, 100) }))).toEqual(new Set([5]))
    expect(new Set(await tokensOf({ logitBias: bias(5, 100), frequencyPenalty: 1000 })).size).toBe(8)
    expect(await tokensOf({ stop: Int32Array.of(first!), minTokens: 8 })).not.toContain(first)
    expect(new Set(await tokensOf({ repetitionPenalty: 1e6, temperature: 1 })).size).toBe(8)
    const bad = { tokens: Int32Array.of(1), values: new Float32Array(2) }
    expect(() => engine.submit(100, prompt, { ...generateParams, logitBias: bad })).toThrow(/as many values as tokens/)
    await engine.close()
  })

  it('reports the tokens of a prompt with what forward says of them', async () => {
    const config = nativeConfig('expert choice')
    const model = await newModel(config)
    const { engine, events, until, finished } = collect(model)
    const prompt = patternTokens(9)
    engine.submit(1, prompt, { ...generateParams, maxTokens: 0, promptLogprobs: 2 })
    await until(() => events.at(-1)?.kind === eventKind.length)
    expect(finished(1)).toBe(true)
    expect(events.map(({ kind }) => kind)).toEqual([
      ...Array.from({ length: 8 }, () => [eventKind.top, eventKind.top, eventKind.prompt]).flat(),
      eventKind.length,
    ])
    const { logits, depths } = await model.forward(prompt, 1, 9, { ...forwardOptions, routing: 'threshold' })
    events
      .filter(({ kind }) => kind === eventKind.prompt)
      .forEach(({ token, depth, logprob }, i) => {
        const row = logits.subarray(i * config.vocabSize, (i + 1) * config.vocabSize)
        expect(token).toBe(prompt[i + 1])
        expect(depth).toBe(depths[i])
        const sum = row.reduce((total, value) => total + Math.exp(value - row[token]!), 0)
        expect(logprob).toBeCloseTo(-Math.log(sum), 3)
      })
    await engine.close()
  })

  it('sends the most likely tokens directly before the token, most likely first', async () => {
    const { engine, events, until } = collect(await newModel(nativeConfig('expert choice')))
    engine.submit(1, patternTokens(6), { ...generateParams, topLogprobs: 3 })
    engine.submit(2, patternTokens(5), generateParams)
    const ended = (id: number) => events.some((event) => event.id === id && event.kind === eventKind.length)
    await until(() => ended(1) && ended(2))
    expect(events.filter(({ id, kind }) => id === 2 && kind === eventKind.top)).toEqual([])
    const tokens = events.flatMap(({ id, kind }, i) => (id === 1 && kind === eventKind.token ? [i] : []))
    expect(tokens).toHaveLength(8)
    for (const at of tokens) {
      const top = events.slice(at - 3, at)
      expect(top.map(({ id, kind, depth }) => [id, kind, depth])).toEqual(Array(3).fill([1, eventKind.top, 0]))
      expect(top[0]).toMatchObject({ token: events[at]!.token, logprob: events[at]!.logprob })
      expect(top[0]!.logprob).toBeGreaterThanOrEqual(top[1]!.logprob)
      expect(top[1]!.logprob).toBeGreaterThanOrEqual(top[2]!.logprob)
      expect(new Set(top.map(({ token }) => token)).size).toBe(3)
    }
    expect(events.filter(({ kind }) => kind === eventKind.top)).toHaveLength(3 * 8)
    expect(() => engine.submit(3, patternTokens(5), { ...generateParams, topLogprobs: 21 })).toThrow(/topLogprobs.*21/)
    await engine.close()
  })

  it('sends a stop token with what it says of others', async () => {
    const model = await newModel(nativeConfig('expert choice'))
    const { engine, events, until } = collect(model)
    const params = { ...generateParams, topLogprobs: 2 }
    engine.submit(1, patternTokens(5), params)
    await until(() => events.some(({ id, kind }) => id === 1 && kind === eventKind.length))
    const all = events.map(({ kind, token, depth, logprob }) => ({ kind, token, depth, logprob }))
    const first = all.slice(0, 3)
    engine.submit(2, patternTokens(5), { ...params, stop: Int32Array.of(first[2]!.token) })
    await until(() => events.some(({ id, kind }) => id === 2 && kind === eventKind.stop))
    const stopped = events.slice(all.length).map(({ kind, token, depth, logprob }) => ({ kind, token, depth, logprob }))
    expect(stopped).toEqual([...first.slice(0, 2), { ...first[2], kind: eventKind.stop }])
    await engine.close()
  })

  it('tells what is wrong with a request in its own event, and goes on', async () => {
    const model = await newModel(nativeConfig('expert choice'))
    const { engine, events, messages, until, finished } = collect(model)
    engine.submit(1, Int32Array.of(99), generateParams)
    engine.submit(2, Int32Array.of(1), generateParams)
    expect(() => engine.submit(2, Int32Array.of(1), generateParams)).toThrow('request 2 is under way already')
    expect(() => engine.submit(3, Int32Array.of(1), { ...generateParams, topP: 2 })).toThrow(/topP .* got 2/)
    await until(() => finished(1) && finished(2))
    const error = events.find(({ id }) => id === 1)!
    expect(error.kind).toBe(eventKind.error)
    expect(errorCodes[error.token]).toBe('TOKEN_OUT_OF_RANGE')
    expect(messages).toEqual([expect.stringMatching(/99.*47/)])
    expect(events.at(-1)).toMatchObject({ id: 2, kind: eventKind.length })
    await engine.close()
  })

  it('aborts before, during and after, and takes turns with training', async () => {
    const model = await newModel(slowConfig)
    const trainer = newTrainer(model)
    const { engine, events, prefills, until, finished } = collect(model, 1)
    const start = performance.now()
    const long = { ...generateParams, maxTokens: 400 }
    engine.submit(1, patternTokens(8), long)
    engine.submit(2, patternTokens(8), long)
    engine.abort(2)
    engine.abort(77)
    await until(() => events.some(({ kind }) => kind === eventKind.token))
    await slowStep(trainer)
    engine.abort(1)
    await until(() => finished(1) && finished(2))
    for (const id of [1, 2]) expect(events.filter((event) => event.id === id).at(-1)!.kind).toBe(eventKind.abort)
    engine.abort(1)
    const before = events.length
    engine.submit(1, patternTokens(8), generateParams)
    await until(() => events.slice(before).some(({ kind }) => kind === eventKind.length))
    expect(prefills.map(([id]) => id)).toEqual([1, 1])
    const elapsed = (performance.now() - start) / 1000
    for (const [, seconds] of prefills) expect(seconds > 0 && seconds < elapsed, `${seconds}`).toBe(true)
    await engine.close()
  })

  it('ends its requests when it is closed or its model disposed', async () => {
    const model = await newModel(slowConfig)
    const long = { ...generateParams, maxTokens: 400 }
    const closed = collect(model)
    closed.engine.submit(1, patternTokens(8), long)
    await closed.engine.close()
    expect(closed.events.at(-1)).toMatchObject({ id: 1, kind: eventKind.abort })
    expect(() => closed.engine.submit(2, patternTokens(8), long)).toThrow('the engine is disposed')
    await closed.engine.close()

    const orphan = collect(model)
    orphan.engine.submit(1, patternTokens(8), long)
    await orphan.until(() => orphan.events.length > 0)
    orphan.engine.submit(2, patternTokens(8), long)
    model.dispose()
    await orphan.until(() => orphan.finished(1) && orphan.finished(2))
    for (const { kind, token } of orphan.events.filter((event) => event.kind !== eventKind.token)) {
      expect([kind, errorCodes[token]]).toEqual([eventKind.error, 'DISPOSED'])
    }
    await orphan.engine.close()
  })
})
