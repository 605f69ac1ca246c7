// Generations: their tokens, how they end, aborts at every moment, and what a closed engine says.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Engine, type EngineOptions } from '../../lib/engine.js'
import { MorError } from '../../lib/errors.js'
import { type GeneratedToken, Generation } from '../../lib/generation.js'
import { Model } from '../../lib/model.js'
import { eventKind } from '../../lib/native.js'
import type { GenerateOptions } from '../../lib/sampling.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { FakeAddon } from './fake_addon.js'
import { loadFamily } from './tokenizer/families.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))

const config: ModelConfig = {
  vocab_size: 32,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 16,
  eos_token_id: 9,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}
let model: Model
let engine: Engine
beforeEach(async () => {
  addon = new FakeAddon()
  model = await Model.create(config)
  engine = new Engine(model)
})

async function collect(generation: AsyncIterable<GeneratedToken>): Promise<number[]> {
  const tokens: number[] = []
  for await (const { token } of generation) tokens.push(token)
  return tokens
}

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

  it('passes complete parameters to the addon', () => {
    const submit = vi.spyOn(addon.engines[0]!, 'submit')
    engine.generate([1, 2, 3], {
      maxTokens: 2,
      temperature: 0,
      topK: 5,
      topP: 0.9,
      minP: 0.05,
      seed: 7,
      logitBias: { 30: -100, 4: 2.5 },
      repetitionPenalty: 1.2,
      presencePenalty: -2,
      frequencyPenalty: 0.5,
      stopTokenIds: [3],
      minTokens: 1,
      routerThreshold: 0.4,
      maxRecursions: 2,
      topLogprobs: 20,
      promptLogprobs: 3,
      promptLogprobsFrom: 2,
      priority: -3,
    })
    expect(submit).toHaveBeenCalledWith(1, Int32Array.of(1, 2, 3), {
      maxTokens: 2,
      temperature: 0,
      topK: 5,
      topP: 0.9,
      minP: 0.05,
      seed: 7,
      logitBias: { tokens: Int32Array.of(4, 30), values: Float32Array.of(2.5, -100) },
      repetitionPenalty: 1.2,
      presencePenalty: -2,
      frequencyPenalty: 0.5,
      stop: Int32Array.of(9, 3),
      minTokens: 1,
      routerThreshold: 0.4,
      maxRecursions: 2,
      logprobs: true,
      topLogprobs: 20,
      promptLogprobs: 3,
      promptLogprobsFrom: 2,
      priority: -3,
    })
    engine.generate([1], { maxTokens: 2 })
    engine.generate([1], { maxTokens: 2 })
    const [defaults, others] = submit.mock.calls.slice(1).map(([, , params]) => params)
    expect(defaults).toMatchObject({
      temperature: 1,
      topK: 0,
      topP: 1,
      minP: 0,
      logitBias: { tokens: new Int32Array(), values: new Float32Array() },
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      stop: Int32Array.of(9),
      minTokens: 0,
      routerThreshold: 0.5,
      maxRecursions: 0,
      topLogprobs: 0,
      promptLogprobs: -1,
      promptLogprobsFrom: 1,
      priority: 0,
    })
    expect(defaults!.seed).not.toBe(others!.seed)
  })

  it.each<[unknown, object, string, RegExp]>([
    [[], { maxTokens: 1 }, 'INVALID_ARGUMENT', /the prompt is empty/],
    [5, { maxTokens: 1 }, 'INVALID_ARGUMENT', /the prompt is 5; it must be a text or an array of token ids/],
    [
      [32],
      { maxTokens: 1 },
      'TOKEN_OUT_OF_RANGE',
      /prompt: the token at index 0 is 32; the vocabulary has ids 0 to 31/,
    ],
    [Array(16).fill(1), { maxTokens: 1 }, 'CONTEXT_OVERFLOW', /the prompt has 16 tokens and the context holds 16/],
    [[1], {}, 'INVALID_ARGUMENT', /maxTokens is missing/],
    [[1], undefined as never, 'INVALID_ARGUMENT', /generate is undefined; it must be an object/],
    [[1], { maxTokens: 0 }, 'INVALID_ARGUMENT', /maxTokens is 0/],
    [[1], { maxTokens: 1, temperature: -1 }, 'INVALID_ARGUMENT', /temperature is -1; it must be a finite number >= 0/],
    [
      [1],
      { maxTokens: 1, temperature: 1e300 },
      'INVALID_ARGUMENT',
      /temperature is 1e\+300, which in float32 becomes Inf/,
    ],
    [[1], { maxTokens: 1, topP: 0 }, 'INVALID_ARGUMENT', /topP is 0; it must be a finite number > 0 and <= 1/],
    [[1], { maxTokens: 1, topP: 1.1 }, 'INVALID_ARGUMENT', /topP is 1.1; it must be a finite number > 0 and <= 1/],
    [[1], { maxTokens: 1, temperature: Number.NaN }, 'INVALID_ARGUMENT', /temperature is NaN/],
    ...[-0.1, 1.1, Number.NaN].map((routerThreshold): [unknown, object, string, RegExp] => [
      [1],
      { maxTokens: 1, routerThreshold },
      'INVALID_ARGUMENT',
      /routerThreshold is (-0.1|1.1|NaN)/,
    ]),
    [[1], { maxTokens: 1, topP: 1e-300 }, 'INVALID_ARGUMENT', /topP is 1e-300, which in float32 becomes 0/],
    [[1], { maxTokens: 1, topK: -2 }, 'INVALID_ARGUMENT', /topK is -2/],
    [[1], { maxTokens: 1, seed: -1 }, 'INVALID_ARGUMENT', /seed is -1/],
    [[1], { maxTokens: 1, stopTokenIds: [40] }, 'TOKEN_OUT_OF_RANGE', /stopTokenIds: the token at index 0 is 40/],
    [
      [1],
      { maxTokens: 1, maxRecursions: 0 },
      'INVALID_ARGUMENT',
      /maxRecursions is 0; it must be an integer from 1 to 3/,
    ],
    [
      [1],
      { maxTokens: 1, priority: 0.5 },
      'INVALID_ARGUMENT',
      /priority is 0.5; it must be an integer from -2147483648/,
    ],
    [
      [1],
      { maxTokens: 1, topLogprobs: 21 },
      'INVALID_ARGUMENT',
      /topLogprobs is 21; it must be an integer from 0 to 20/,
    ],
    [
      [1],
      { maxTokens: 1, topLogprobs: -1 },
      'INVALID_ARGUMENT',
      /topLogprobs is -1; it must be an integer from 0 to 20/,
    ],
    [[1], { maxTokens: 1, promptLogprobs: -1 }, 'INVALID_ARGUMENT', /promptLogprobs is -1; .* from 0 to 20/],
    [[1], { maxTokens: 1, promptLogprobs: 21 }, 'INVALID_ARGUMENT', /promptLogprobs is 21; .* from 0 to 20/],
    [
      [1],
      { maxTokens: 1, promptLogprobsFrom: 0 },
      'INVALID_ARGUMENT',
      /promptLogprobsFrom is 0; it must be an integer from 1 to \d+$/,
    ],
    [[1], { maxTokens: -1, promptLogprobs: 0 }, 'INVALID_ARGUMENT', /maxTokens is -1/],
    [[1], { maxTokens: 1, minP: 1.5 }, 'INVALID_ARGUMENT', /minP is 1.5; it must be a finite number >= 0 and <= 1/],
    [[1], { maxTokens: 1, logitBias: { 32: 1 } }, 'TOKEN_OUT_OF_RANGE', /logitBias names the token "32"/],
    [[1], { maxTokens: 1, logitBias: { '': 1 } }, 'TOKEN_OUT_OF_RANGE', /logitBias names the token ""; .* ids 0 to 31/],
    [[1], { maxTokens: 1, logitBias: { '-1': 1 } }, 'TOKEN_OUT_OF_RANGE', /logitBias names the token "-1"/],
    [[1], { maxTokens: 1, logitBias: { '03': 1, 3: 2 } }, 'TOKEN_OUT_OF_RANGE', /logitBias names the token "03"/],
    [[1], { maxTokens: 1, signal: 5 }, 'INVALID_ARGUMENT', /signal is 5; it must be an AbortSignal/],
    ['a', { maxTokens: 1, signal: {} }, 'INVALID_ARGUMENT', /signal is \{\}; it must be an AbortSignal/],
    [[1], { maxTokens: 1, logitBias: { 3: 101 } }, 'INVALID_ARGUMENT', /logitBias: 3 is 101; it must be .* <= 100/],
    [[1], { maxTokens: 1, logitBias: { 3: NaN } }, 'INVALID_ARGUMENT', /logitBias: 3 is NaN/],
    [[1], { maxTokens: 1, logitBias: [1] }, 'INVALID_ARGUMENT', /logitBias is \[1\]; it must be an object/],
    [[1], { maxTokens: 1, logitBias: new Map([[1, 5]]) }, 'INVALID_ARGUMENT', /logitBias is a Map, .* a plain object/],
    [[1], { maxTokens: 1, repetitionPenalty: 0 }, 'INVALID_ARGUMENT', /repetitionPenalty is 0; it must be .* >= 0.01/],
    [[1], { maxTokens: 1, presencePenalty: 2.5 }, 'INVALID_ARGUMENT', /presencePenalty is 2.5; it must be .* <= 2/],
    [[1], { maxTokens: 1, frequencyPenalty: -3 }, 'INVALID_ARGUMENT', /frequencyPenalty is -3; it must be .* >= -2/],
    [
      [1],
      { maxTokens: 5, minTokens: 1, stopTokenIds: Array.from({ length: config.vocab_size }, (_, token) => token) },
      'INVALID_ARGUMENT',
      /minTokens is 1, but every one of the \d+ tokens/,
    ],
    [[1], { maxTokens: 5, minTokens: 6 }, 'INVALID_ARGUMENT', /minTokens is 6; it must be an integer from 0 to 5/],
    [[1], { maxTokens: 1, ignoreEos: 1 }, 'INVALID_ARGUMENT', /ignoreEos is 1; it must be true or false/],
    [[1], { maxTokens: 1, stop: [4] }, 'INVALID_ARGUMENT', /stop is \[4\]; it must be a text or a list of texts/],
    [[1], { maxTokens: 1, top_k: 4 }, 'INVALID_ARGUMENT', /unknown key "top_k" \(did you mean "topK"/],
  ])('refuses %j with %j at once', (prompt, options, code, message) => {
    expect(() => engine.generate(prompt as number[], options as GenerateOptions)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    )
    expect(addon.engines[0]!.queue).toHaveLength(0)
  })

  it('refuses a threshold where the model has none', async () => {
    const other = new Engine(await Model.create({ ...config, router: { type: 'token_choice' } }))
    expect(() => other.generate([1], { maxTokens: 1, routerThreshold: 0.5 })).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(
          /^generate: routerThreshold is 0.5, but this model has a router of type "token_choice"/,
        ),
      }),
    )
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
