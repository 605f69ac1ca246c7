// Generations: their tokens, what they say of them and of the prompt, how they end, and their text.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { Engine } from '../../lib/engine.js'
import { type GeneratedToken, Generation } from '../../lib/generation.js'
import { Model } from '../../lib/model.js'
import { eventKind } from '../../lib/native/engine.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { FakeAddon } from './fake_addon.js'
import { collect, config } from './tiny_engine.js'
import { loadFamily } from './tokenizer/families.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))

let engine: Engine
beforeEach(async () => {
  addon = new FakeAddon()
  engine = new Engine(await Model.create(config))
})

describe('generate', () => {
  it('gives tokens as they come and the whole as a result', async () => {
    const generation = engine.generate([10, 11], { maxTokens: 3 })
    const seen: GeneratedToken[] = []
    for await (const item of generation) seen.push(item)
    expect(seen).toEqual([
      { token: 12, depth: 1, logprob: -0.5 },
      { token: 13, depth: 2, logprob: -0.5 },
      { token: 14, depth: 3, logprob: -0.5 },
    ])
    expect(await generation.result).toEqual({
      tokens: [12, 13, 14],
      depths: [1, 2, 3],
      logprobs: [-0.5, -0.5, -0.5],
      finishReason: 'length',
    })
  })

  it('lists the most likely tokens beside each where asked for, and an empty list of none', async () => {
    const generation = engine.generate([10], { maxTokens: 2, topLogprobs: 2 })
    const top = (first: number) => [
      { token: first, logprob: -0.5 },
      { token: first + 1, logprob: -1.5 },
    ]
    const seen: GeneratedToken[] = []
    for await (const item of generation) {
      seen.push(structuredClone(item))
      item.topLogprobs![0]!.token = -1
    }
    expect(seen.map(({ token, topLogprobs }) => ({ token, topLogprobs }))).toEqual([
      { token: 11, topLogprobs: top(11) },
      { token: 12, topLogprobs: top(12) },
    ])
    const again: GeneratedToken[] = []
    for await (const item of generation) again.push(item)
    expect(again).toEqual(seen)
    expect((await generation.result).topLogprobs).toEqual([top(11), top(12)])
    const none = await engine.generate([10], { maxTokens: 2, topLogprobs: 2, signal: AbortSignal.abort() }).result
    expect(none).toMatchObject({ tokens: [], topLogprobs: [] })
    expect(await engine.generate([10], { maxTokens: 2, topLogprobs: 0 }).result).not.toHaveProperty('topLogprobs')
  })

  it('gives each request its own list where several come in one step', async () => {
    const fake = addon.engines[0]!
    fake.submit = () => {}
    const [first, second, gone] = [1, 2, 3].map((topLogprobs) => engine.generate([10], { maxTokens: 1, topLogprobs }))
    fake.emit(3, eventKind.abort)
    const { top, token, length } = eventKind
    const records = [
      [3, top, 30, 0, -3],
      [3, token, 30, 1, -3],
      [1, top, 11, 0, -1],
      [1, token, 12, 1, -2],
      [1, length, -1, 0, 0],
      [2, top, 21, 0, -1],
      [2, top, 22, 0, -2],
      [2, token, 21, 1, -1],
      [2, length, -1, 0, 0],
    ]
    fake.onEvents(Float64Array.from(records.flat()), [])
    expect(await first!.result).toMatchObject({ tokens: [12], topLogprobs: [[{ token: 11, logprob: -1 }]] })
    const both = [
      { token: 21, logprob: -1 },
      { token: 22, logprob: -2 },
    ]
    expect(await second!.result).toMatchObject({ tokens: [21], topLogprobs: [both] })
    expect(await gone!.result).toMatchObject({ tokens: [], topLogprobs: [] })
  })

  it('reports the tokens of the prompt where asked for, before the first generated one', async () => {
    const generation = engine.generate([10, 12, 11], { maxTokens: 2, promptLogprobs: 1 })
    const expected = [
      null,
      { token: 12, depth: 1, logprob: -0.25, topLogprobs: [{ token: 12, logprob: -0.25 }] },
      { token: 11, depth: 3, logprob: -0.25, topLogprobs: [{ token: 11, logprob: -0.25 }] },
    ]
    let first = true
    for await (const { token } of generation) {
      if (first) expect(await generation.promptTokens()).toEqual(expected)
      first = false
      expect([12, 13]).toContain(token)
    }
    const result = await generation.result
    expect(result).toMatchObject({ tokens: [12, 13], promptTokens: expected })
    result.promptTokens![1]!.topLogprobs![0]!.token = -1
    expect(await generation.promptTokens()).toEqual(expected)

    const bare = engine.generate([10, 12], { maxTokens: 0, promptLogprobs: 0 })
    const tokens = [null, { token: 12, depth: 1, logprob: -0.25 }]
    expect(await bare.result).toEqual({
      tokens: [],
      depths: [],
      logprobs: [],
      promptTokens: tokens,
      finishReason: 'length',
    })
    const one = engine.generate([10], { maxTokens: 0, promptLogprobs: 5 })
    expect(await one.promptTokens()).toEqual([null])
    const without = engine.generate([10, 12], { maxTokens: 1 })
    expect(await without.promptTokens()).toEqual([])
    expect(await without.result).not.toHaveProperty('promptTokens')
  })

  it('gives what it knows of the prompt where the generation ends within it', async () => {
    addon.engines[0]!.submit = () => {}
    const generation = engine.generate([10, 11, 12], { maxTokens: 2, promptLogprobs: 0 })
    const asked = generation.promptTokens()
    addon.engines[0]!.emit(1, eventKind.prompt, 11, 2, -3)
    generation.abort()
    addon.engines[0]!.emit(1, eventKind.abort)
    expect(await asked).toEqual([null, { token: 11, depth: 2, logprob: -3 }])
    expect(await generation.result).toMatchObject({ finishReason: 'abort', promptTokens: await asked })
  })

  it('stops at the end token of the config, or at those asked for', async () => {
    expect(await engine.generate([6], { maxTokens: 9 }).result).toMatchObject({ tokens: [7, 8], finishReason: 'stop' })
    expect(await engine.generate([6], { maxTokens: 3, ignoreEos: true }).result).toMatchObject({
      tokens: [7, 8, 9],
      finishReason: 'length',
    })
    expect(await engine.generate([6], { maxTokens: 9, stopTokenIds: [8] }).result).toMatchObject({
      tokens: [7],
      finishReason: 'stop',
    })
    expect(await engine.generate([6], { maxTokens: 9, stopTokenIds: Int32Array.of(20, 7) }).result).toMatchObject({
      tokens: [],
    })
  })

  it('says of the stop token what it says of others, beside them', async () => {
    const ends = async (options: object) => (await engine.generate([6], { maxTokens: 2, ...options }).result).stopToken
    expect(await ends({ stopTokenIds: [8] })).toEqual({ token: 8, depth: expect.any(Number), logprob: -0.5 })
    const listed = await ends({ stopTokenIds: [7], topLogprobs: 2 })
    expect(listed!.topLogprobs!.map(({ token }) => token)).toEqual([7, 8])
    expect(await engine.generate([6], { maxTokens: 2 }).result).not.toHaveProperty('stopToken')
  })

  it('generates no further than the context', async () => {
    const { tokens, finishReason } = await engine.generate(Array(14).fill(20), { maxTokens: 100 }).result
    expect(tokens).toEqual([21, 22])
    expect(finishReason).toBe('length')
  })

  it('lets a slow reader, a late reader and a second reader see every token', async () => {
    const generation = engine.generate([10], { maxTokens: 5 })
    const slow = (async () => {
      const tokens: number[] = []
      for await (const { token } of generation) {
        await new Promise((resolve) => setTimeout(resolve, 2))
        tokens.push(token)
      }
      return tokens
    })()
    const fast = collect(generation)
    expect(await fast).toEqual([11, 12, 13, 14, 15])
    expect(await slow).toEqual(await fast)
    expect(await collect(generation)).toEqual(await fast)
  })

  it('keeps requests apart', async () => {
    const generations = [10, 20, 25].map((start) => engine.generate([start], { maxTokens: 3 }))
    const results = await Promise.all(generations.map((generation) => generation.result))
    expect(results.map(({ tokens }) => tokens)).toEqual([
      [11, 12, 13],
      [21, 22, 23],
      [26, 27, 28],
    ])
  })
})

describe('text', () => {
  /** Generates the bytes of `text`. */
  function generationOf(text: string): Generation {
    const generation = new Generation([], () => {})
    const bytes = Tokenizer.byteLevel().encode(text)
    bytes.forEach((token, i) => {
      setTimeout(() => generation.push({ token, depth: 1, logprob: 0 }), i)
    })
    setTimeout(() => generation.finish('length'), bytes.length)
    return generation
  }
  const tokenizer = Tokenizer.byteLevel()

  it('comes in whole characters', async () => {
    const pieces: string[] = []
    for await (const piece of generationOf('né 漢 😀!').text(tokenizer)) pieces.push(piece)
    expect(pieces).toEqual(['n', 'é', ' ', '漢', ' ', '😀', '!'])
  })

  it('ends with what an unfinished character leaves', async () => {
    const generation = new Generation([], () => {})
    for (const token of tokenizer.encode('a😀').slice(0, 3)) generation.push({ token, depth: 1, logprob: 0 })
    generation.finish('length')
    const pieces: string[] = []
    for await (const piece of generation.text(tokenizer)) pieces.push(piece)
    expect(pieces).toEqual(['a', '\ufffd'])
  })

  it('goes on from the prompt, with the space between them', async () => {
    const llama = await loadFamily('llama')
    const [prompt, [there]] = [llama.encode('a time,'), llama.encode('there', { addSpecialTokens: false })]
    const generation = new Generation(prompt, () => {})
    generation.push({ token: there!, depth: 1, logprob: 0 })
    generation.finish('length')
    const pieces: string[] = []
    for await (const piece of generation.text(llama)) pieces.push(piece)
    expect(pieces).toEqual([' there'])
  })

  it('goes on from the prompt that the engine was given', async () => {
    const detokenizer = vi.fn((_prompt?: ArrayLike<number>) => tokenizer.detokenizer())
    const spied = Object.assign(Object.create(tokenizer), { detokenizer })
    for await (const _ of engine.generate([10, 11], { maxTokens: 2 }).text(spied));
    expect(Array.from(detokenizer.mock.calls[0]![0]!)).toEqual([10, 11])
  })

  it('aborts the request when it is left', async () => {
    const generation = engine.generate([10], { maxTokens: 12 })
    for await (const _ of generation.text(tokenizer)) break
    expect((await generation.result).finishReason).toBe('abort')
  })
})
