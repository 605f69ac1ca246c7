// The options of a generation: what the addon is given, and what is refused.
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { Engine } from '../../lib/engine.js'
import { Model } from '../../lib/model.js'
import type { GenerateOptions } from '../../lib/sampling.js'
import { FakeAddon } from './fake_addon.js'
import { config } from './tiny_engine.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))

let engine: Engine
beforeEach(async () => {
  addon = new FakeAddon()
  engine = new Engine(await Model.create(config))
})

describe('generate', () => {
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

  it('takes more stop tokens than a call takes arguments', () => {
    const submit = vi.spyOn(addon.engines[0]!, 'submit')
    engine.generate([1], { maxTokens: 2, stopTokenIds: new Int32Array(300_000).fill(3) })
    expect(submit.mock.calls[0]![2].stop.length).toBe(300_001)
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
    [
      [1, 2, 3],
      { maxTokens: 1, promptLogprobs: 0, promptLogprobsFrom: 3 },
      'INVALID_ARGUMENT',
      /promptLogprobsFrom is 3; it must be an integer from 1 to 2$/,
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
