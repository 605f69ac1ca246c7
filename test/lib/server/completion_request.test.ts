// The body of a completion request: defaults, and every field that can be wrong named in the error.
import { describe, expect, it } from 'vitest'
import { type ModelConfig, resolveConfig } from '../../../lib/config.js'
import { ApiError } from '../../../lib/server/api_error.js'
import { readCompletionRequest } from '../../../lib/server/completion_request.js'

const recursions = 3
const config: ModelConfig = {
  vocab_size: 100,
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 64,
  num_recursions: recursions,
  router: { type: 'expert_choice' },
}
const model = resolveConfig(config)

function read(fields: object) {
  return readCompletionRequest({ model: 'm', prompt: 'p', ...fields }, model)
}

function errorOf(body: unknown, of: Parameters<typeof readCompletionRequest>[1] = model): ApiError {
  try {
    readCompletionRequest(body, of)
  } catch (error) {
    expect(error).toBeInstanceOf(ApiError)
    return error as ApiError
  }
  throw new Error('no error')
}

describe('readCompletionRequest', () => {
  it('fills in the defaults', () => {
    expect(read({})).toEqual({
      model: 'm',
      prompts: ['p'],
      n: 1,
      bestOf: 1,
      maxTokens: 16,
      sampling: { temperature: 1, topP: 1, topK: 0 },
      seed: null,
      stop: [],
      stream: false,
      includeUsage: false,
      logprobs: null,
      echo: false,
    })
  })

  it('reads every field', () => {
    const sampling = {
      temperature: 0,
      top_p: 0.5,
      top_k: 3,
      min_p: 0.1,
      presence_penalty: 2,
      frequency_penalty: -2,
      repetition_penalty: 1.5,
      logit_bias: { 5: -100, 99: 100 },
      ignore_eos: true,
      stop_token_ids: [7, 0],
      min_tokens: 4,
      router_threshold: 0.25,
      max_recursions: 2,
      priority: -7,
    }
    const others = { n: 2, best_of: 4, max_tokens: 9, logprobs: 5, echo: true, seed: 3, stop: 'x', user: 'me' }
    expect(read({ ...sampling, ...others, prompt: [[1], [2]] })).toEqual({
      model: 'm',
      prompts: [[1], [2]],
      n: 2,
      bestOf: 4,
      maxTokens: 9,
      sampling: {
        temperature: 0,
        topP: 0.5,
        topK: 3,
        minP: 0.1,
        presencePenalty: 2,
        frequencyPenalty: -2,
        repetitionPenalty: 1.5,
        logitBias: { 5: -100, 99: 100 },
        ignoreEos: true,
        stopTokenIds: Int32Array.of(7, 0),
        minTokens: 4,
        routerThreshold: 0.25,
        maxRecursions: 2,
        priority: -7,
      },
      seed: 3,
      stop: ['x'],
      stream: false,
      includeUsage: false,
      logprobs: 5,
      echo: true,
    })
    expect(read({ stream: true, stream_options: { include_usage: true, include_obfuscation: false } })).toMatchObject({
      stream: true,
      includeUsage: true,
    })
    expect(read({ stream: true, stream_options: { include_obfuscation: true } }).includeUsage).toBe(false)
    expect(read({ max_tokens: 0, echo: true }).maxTokens).toBe(0)
    expect(read({ stream: true, best_of: 3, n: 3 }).bestOf).toBe(3)
  })

  it('takes null for a field left out, and fields that ask for nothing', () => {
    const neutral = {
      echo: false,
      suffix: '',
      best_of: 2,
      n: 2,
      presence_penalty: 0,
      logit_bias: {},
      user: 'someone',
    }
    expect(read({ ...neutral, stop: null, seed: null, stream_options: null })).toEqual({
      ...read({ logit_bias: {}, presence_penalty: 0 }),
      n: 2,
      bestOf: 2,
    })
    expect(read({ suffix: '' })).toEqual(read({}))
  })

  it('takes every form of prompt and of stop', () => {
    expect(read({ prompt: '' }).prompts).toEqual([''])
    expect(read({ prompt: [1, 2] }).prompts).toEqual([[1, 2]])
    expect(read({ prompt: ['a', 'b'] }).prompts).toEqual(['a', 'b'])
    expect(read({ prompt: [[1], [2, 3]] }).prompts).toEqual([[1], [2, 3]])
    expect(read({ stop: 'a' }).stop).toEqual(['a'])
    expect(read({ stop: ['a', 'b', 'c', 'd'] }).stop).toEqual(['a', 'b', 'c', 'd'])
    expect(read({ stop: Array(32).fill('a') }).stop).toHaveLength(32)
  })

  it.each<[unknown, string]>([
    [5, 'prompt is 5'],
    [[], 'prompt is an empty array'],
    [[[]], 'prompt[0] is an empty array'],
    [[null], 'prompt[0] is null'],
    [[1, 'a'], 'prompt[1] is "a", unlike those before it'],
    [['a', [84]], 'prompt[1] is an array of 1, unlike those before it'],
    [[[1], 'a'], 'prompt[1] is "a", unlike those before it'],
    [[[1], []], 'prompt[1] is an empty array'],
    [[[1], [2, 'a']], 'prompt[1][1] is "a"'],
  ])('says what is wrong in the prompt %j', (prompt, what) => {
    const form = 'prompt must be a text, an array of token ids, or an array of either, and no array may be empty'
    expect(() => read({ prompt })).toThrow(expect.objectContaining({ message: `${what}; ${form}` }))
  })

  it.each([
    ['prompt', { prompt: 5 }],
    ['prompt', { prompt: null }],
    ['prompt', { prompt: [] }],
    ['prompt', { prompt: [[]] }],
    ['prompt', { prompt: ['a', 1] }],
    ['prompt', { prompt: [[1], 'a'] }],
    ['prompt', { prompt: { text: 'a' } }],
    ['model', { model: 7 }],
    ['model', { model: '' }],
    ['max_tokens', { max_tokens: -1 }],
    ['max_tokens', { max_tokens: 0 }],
    ['max_tokens', { max_tokens: 1e12 }],
    ['max_tokens', { max_tokens: 1.5 }],
    ['max_tokens', { max_tokens: '16' }],
    ['temperature', { temperature: Number.POSITIVE_INFINITY }],
    ['temperature', { temperature: -0.1 }],
    ['temperature', { temperature: 'hot' }],
    ['temperature', { temperature: [[[]]] }],
    ['top_p', { top_p: 0 }],
    ['top_p', { top_p: 1.01 }],
    ['top_k', { top_k: -1 }],
    ['n', { n: 0 }],
    ['n', { n: 129 }],
    ['seed', { seed: -1 }],
    ['seed', { seed: 2 ** 53 }],
    ['stop', { stop: '' }],
    ['stop', { stop: ['a', ''] }],
    ['stop', { stop: Array(33).fill('a') }],
    ['stop', { stop: 5 }],
    ['stop', { stop: ['a', 'x'.repeat(16 * 64 + 1)] }],
    ['stop', { stop: { 0: 'a' } }],
    ['stream', { stream: 'yes' }],
    ['stream_options', { stream_options: { include_usage: true } }],
    ['stream_options', { stream: true, stream_options: { include_usage: 1 } }],
    ['stream_options', { stream: true, stream_options: { other: true } }],
    ['stream_options', { stream: true, stream_options: 'all' }],
    ['stream_options', { stream: true, stream_options: [true] }],
    ['logprobs', { logprobs: 21 }],
    ['logprobs', { logprobs: true }],
    ['router_threshold', { router_threshold: 1.1 }],
    ['max_recursions', { max_recursions: recursions + 1 }],
    ['max_recursions', { max_recursions: 0 }],
    ['priority', { priority: 0.5 }],
    ['max_tokens', { max_tokens: -1, echo: true }],
    ['echo', { echo: 1 }],
    ['best_of', { best_of: 1, n: 2 }],
    ['best_of', { best_of: 129 }],
    ['best_of', { best_of: 3, stream: true }],
    ['suffix', { suffix: 'end' }],
    ['temperature', { temperature: 1e-300 }],
    ['temperature', { temperature: 2.1 }],
    ['top_p', { top_p: 1e-300 }],
    ['min_p', { min_p: -0.1 }],
    ['min_p', { min_p: 1.1 }],
    ['presence_penalty', { presence_penalty: 2.1 }],
    ['frequency_penalty', { frequency_penalty: -2.1 }],
    ['frequency_penalty', { frequency_penalty: '0' }],
    ['repetition_penalty', { repetition_penalty: 0 }],
    ['logit_bias', { logit_bias: { 50256: -100 } }],
    ['logit_bias', { logit_bias: { 100: 1 } }],
    ['logit_bias', { logit_bias: { '-1': 1 } }],
    ['logit_bias', { logit_bias: { the: 1 } }],
    ['logit_bias', { logit_bias: { 5: 101 } }],
    ['logit_bias', { logit_bias: { 5: null } }],
    ['logit_bias', { logit_bias: JSON.parse('{ "__proto__": 5 }') }],
    ['logit_bias', { logit_bias: [5] }],
    ['logit_bias', { logit_bias: 'none' }],
    ['stop_token_ids', { stop_token_ids: [100] }],
    ['stop_token_ids', { stop_token_ids: ['5'] }],
    ['stop_token_ids', { stop_token_ids: 5 }],
    ['min_tokens', { min_tokens: 17 }],
    ['min_tokens', { min_tokens: -1 }],
    ['ignore_eos', { ignore_eos: 'no' }],
    ['user', { user: 1 }],
  ])('refuses a wrong %s: %j', (param, fields) => {
    const body = Object.assign(Object.create(null), { model: 'm', prompt: 'p' })
    for (const [key, value] of Object.entries(fields)) Object.defineProperty(body, key, { value, enumerable: true })
    const error = errorOf(body)
    expect(error).toMatchObject({ status: 400, param })
    expect(error.message).toContain(param)
    expect(error.body.error).toMatchObject({ type: 'invalid_request_error', param, message: error.message })
  })

  it.each([null, 'text', 5, [], [{ model: 'm' }]])('refuses a body that is no object: %j', (body) => {
    expect(errorOf(body)).toMatchObject({ status: 400, param: null })
  })

  it('refuses fewer recursions where a token cannot end after fewer', () => {
    const error = errorOf({ model: 'm', prompt: 'p', max_recursions: 2 }, { ...model, sharing: 'sequence' })
    expect(error).toMatchObject({ status: 400, param: 'max_recursions' })
    expect(error.message).toMatch(/max_recursions is 2, .*sharing "sequence"/)
  })

  it('refuses a threshold where the model has none', () => {
    const of = resolveConfig({ ...config, router: { type: 'token_choice' } })
    const error = errorOf({ model: 'm', prompt: 'p', router_threshold: 0.5 }, of)
    expect(error).toMatchObject({ status: 400, param: 'router_threshold' })
    expect(error.message).toMatch(/router_threshold is 0.5, .* type "token_choice".*: leave router_threshold out/)
  })

  it('says what it found, and what is near', () => {
    expect(errorOf({ model: 'm', prompt: 'p', max_tokens: -3 }).message).toContain('-3')
    expect(errorOf({ prompt: 'p' }).message).toContain('model')
  })

  it('refuses a value nested as deeply as a body can be', () => {
    const deep = JSON.parse('['.repeat(400_000) + ']'.repeat(400_000))
    for (const field of ['prompt', 'temperature', 'stop', 'echo', 'model', 'stream_options', 'n']) {
      expect(errorOf({ model: 'm', prompt: 'p', [field]: deep }), field).toMatchObject({ status: 400, param: field })
    }
  })
})
