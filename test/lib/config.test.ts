// Every rule of a configuration: defaults, unknown keys, ranges and contradictions, with both values in the message.
import { describe, expect, it } from 'vitest'
import { modelKind, resolveConfig } from '../../lib/config.js'
import { toNativeConfig } from '../../lib/config_native.js'
import { MorError } from '../../lib/errors.js'

const base = {
  vocab_size: 256,
  hidden_size: 64,
  intermediate_size: 172,
  num_hidden_layers: 8,
  num_attention_heads: 4,
}
const recursive = { ...base, num_recursions: 3 }
const expert = { ...recursive, router: { type: 'expert_choice' } }
const token = { ...recursive, router: { type: 'token_choice' } }

function messageOf(config: unknown): string {
  try {
    resolveConfig(config)
  } catch (error) {
    expect(error).toBeInstanceOf(MorError)
    expect((error as MorError).code).toBe('INVALID_CONFIG')
    return (error as MorError).message
  }
  throw new Error(`accepted ${JSON.stringify(config)}`)
}

describe('defaults', () => {
  it('completes a vanilla model', () => {
    expect(resolveConfig(base)).toEqual({
      ...base,
      num_key_value_heads: 4,
      head_dim: 16,
      qkv_bias: false,
      qk_norm: false,
      max_position_embeddings: 2048,
      rope_theta: 10000,
      rope_scaling: null,
      rms_norm_eps: 1e-5,
      tie_word_embeddings: true,
      initializer_range: 0.02,
      bos_token_id: null,
      eos_token_id: null,
      num_recursions: 1,
      sharing: 'cycle',
      kv_cache: 'recursion_wise',
      router: null,
    })
  })

  it('completes an expert-choice router', () => {
    const config = resolveConfig(expert)
    expect(modelKind(config)).toBe('mor')
    expect(config.sharing).toBe('middle_cycle')
    expect(config.router).toEqual({
      type: 'expert_choice',
      activation: 'sigmoid',
      architecture: 'linear',
      alpha: 0.1,
      gated: 'output',
      capacities: null,
      auxiliary_loss_coefficient: 0.001,
      z_loss_coefficient: 0,
      auxiliary_router: false,
      capacity_warmup_steps: 0,
      selection: 'threshold',
      threshold_momentum: 0.5,
    })
    for (const router of [{ selection: 'topk' }, { auxiliary_router: true }] as const) {
      const topk = resolveConfig({ ...expert, router: { type: 'expert_choice', ...router } })
      expect(topk.router).toMatchObject({ selection: 'topk', threshold_momentum: null })
      expect(toNativeConfig(topk).router).toMatchObject({ selection: 'topk', thresholdMomentum: 0 })
    }
  })

  it('completes a token-choice router, alpha by its activation', () => {
    expect(resolveConfig(token).router).toEqual({
      type: 'token_choice',
      activation: 'softmax',
      architecture: 'linear',
      alpha: 1,
      gated: 'output',
      balancing: 'loss',
      balancing_loss_coefficient: 0.1,
      z_loss_coefficient: 0.001,
    })
    const sigmoid = resolveConfig({ ...token, router: { type: 'token_choice', activation: 'sigmoid' } })
    expect(sigmoid.router).toMatchObject({ activation: 'sigmoid', alpha: 0.1 })
    const lossFree = resolveConfig({ ...token, router: { type: 'token_choice', balancing: 'loss_free' } })
    expect(lossFree.router).toMatchObject({ balancing: 'loss_free', balancing_loss_coefficient: 0 })
  })

  it('is a fixed point: a resolved configuration resolves to itself', () => {
    const layers = { qkv_bias: true, qk_norm: true, rope_scaling: { type: 'linear', factor: 2 } }
    const threshold = { ...expert, router: { type: 'expert_choice', selection: 'threshold', threshold_momentum: 0 } }
    for (const config of [base, recursive, expert, token, threshold, { ...base, ...layers }]) {
      const once = resolveConfig(config)
      expect(resolveConfig(once)).toEqual(once)
    }
  })

  it('accepts what a Hugging Face Llama config.json adds', () => {
    const file = {
      ...base,
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      hidden_act: 'silu',
      attention_bias: false,
      mlp_bias: false,
      rope_scaling: null,
      head_dim: null,
      torch_dtype: 'bfloat16',
      transformers_version: '4.40.1',
      use_cache: true,
      bos_token_id: 1,
      eos_token_id: [2, 3],
    }
    expect(resolveConfig(file)).toMatchObject({ head_dim: 16, bos_token_id: 1, eos_token_id: [2, 3] })
    const nested = { ...base, rope_parameters: { rope_type: 'default', rope_theta: 500000 } }
    expect(resolveConfig(nested).rope_theta).toBe(500000)
  })
})

describe('what a layer is', () => {
  it('is said by its keys, or follows from model_type', () => {
    expect(resolveConfig({ ...recursive, qkv_bias: true, qk_norm: true })).toMatchObject({
      qkv_bias: true,
      qk_norm: true,
    })
    expect(resolveConfig({ ...base, model_type: 'qwen2' })).toMatchObject({ qkv_bias: true, qk_norm: false })
    expect(resolveConfig({ ...base, model_type: 'qwen3' })).toMatchObject({
      qkv_bias: false,
      qk_norm: true,
      head_dim: 16,
    })
    expect(resolveConfig({ ...base, rope_scaling: { rope_type: 'linear', factor: 2 } }).rope_scaling).toEqual({
      rope_type: 'linear',
      factor: 2,
    })
  })
})

describe('refusals', () => {
  it.each<[string, unknown, RegExp]>([
    ['not an object', 'tiny', /config is "tiny"; it must be an object/],
    ['null', null, /config is null; it must be an object/],
    ['an unknown key', { ...base, hiden_size: 64 }, /unknown key "hiden_size" \(did you mean "hidden_size"\?\)/],
    ['an unknown key with nothing near', { ...base, zzz: 1 }, /unknown key "zzz"$/],
    [
      'an unknown router key',
      { ...expert, router: { type: 'expert_choice', alfa: 1 } },
      /router: unknown key "alfa" \(did you mean "alpha"/,
    ],
    ['a missing key', { ...base, vocab_size: undefined }, /vocab_size is missing/],
    ['a wrong type', { ...base, hidden_size: '64' }, /hidden_size is "64"; it must be an integer/],
    ['a fraction', { ...base, num_hidden_layers: 2.5 }, /num_hidden_layers is 2.5; it must be an integer from 1/],
    ['zero', { ...base, vocab_size: 0 }, /vocab_size is 0; it must be an integer from 1/],
    ['NaN', { ...base, rope_theta: Number.NaN }, /rope_theta is NaN; it must be a finite number > 0/],
    ['a negative epsilon', { ...base, rms_norm_eps: -1 }, /rms_norm_eps is -1; .* > 0 and < 1/],
    ['an epsilon of 0 in float32', { ...base, rms_norm_eps: 1e-300 }, /rms_norm_eps is 1e-300, which in float32 .* 0;/],
    ['a base of 0 in float32', { ...base, rope_theta: 1e-300 }, /rope_theta is 1e-300, which in float32 becomes 0;/],
    ['an infinite base', { ...base, rope_theta: 1e300 }, /rope_theta is 1e\+300, which in float32 becomes Infinity;/],
    [
      'an infinite scale of positions',
      { ...base, rope_scaling: { rope_type: 'linear', factor: 1e39 } },
      /rope_scaling: factor is 1e\+39, which in float32 becomes Infinity;/,
    ],
    [
      'infinite weights',
      { ...base, initializer_range: 1e300 },
      /initializer_range is 1e\+300, which in float32 .* Inf/,
    ],
    [
      'weights of 0',
      { ...base, initializer_range: 1e-300 },
      /initializer_range is 1e-300, which in float32 becomes 0;/,
    ],
    [
      'an infinite gate',
      { ...recursive, router: { type: 'expert_choice', alpha: 1e300 } },
      /router: alpha is 1e\+300, which in float32 becomes Infinity;/,
    ],
    [
      'an infinite loss',
      { ...recursive, router: { type: 'token_choice', z_loss_coefficient: 1e300 } },
      /router: z_loss_coefficient is 1e\+300, which in float32 becomes Infinity;/,
    ],
    ['a truthy boolean', { ...base, tie_word_embeddings: 1 }, /tie_word_embeddings is 1; it must be true or false/],
    [
      'an unknown choice',
      { ...recursive, sharing: 'middle-cycle' },
      /sharing is "middle-cycle"; .*did you mean "middle_cycle"/,
    ],
    [
      'indivisible heads',
      { ...base, num_key_value_heads: 3 },
      /num_attention_heads 4 is not a multiple of num_key_value_heads 3/,
    ],
    [
      'indivisible width',
      { ...base, hidden_size: 66 },
      /hidden_size 66 is not a multiple of num_attention_heads 4; set head_dim/,
    ],
    ['an odd head_dim', { ...base, head_dim: 15 }, /head_dim is 15; rotary embedding needs an even one/],
    [
      'an end token out of range',
      { ...base, eos_token_id: 256 },
      /eos_token_id is 256; it must be an integer from 0 to 255/,
    ],
    ['a list with one out of range', { ...base, eos_token_id: [2, 999] }, /eos_token_id holds 999; .* 0 to 255/],
    ['biases', { ...base, attention_bias: true }, /attention_bias is true; only false is supported/],
    [
      'scaled rotary embedding',
      { ...base, rope_scaling: { type: 'dynamic', factor: 2 } },
      /rope_scaling: type is "dynamic"; it must be "default" or "linear" or "llama3"/,
    ],
    [
      'scaled rotary parameters',
      { ...base, rope_parameters: { rope_type: 'yarn' } },
      /rope_type is "yarn"; it must be "default" or "linear" or "llama3"/,
    ],
    ['another activation', { ...base, hidden_act: 'gelu' }, /hidden_act is "gelu"; only "silu"/],
    ['quantised weights', { ...base, quantization_config: { bits: 4 } }, /quantization_config is \{"bits":4\}/],
    [
      'another architecture',
      { ...base, model_type: 'gemma2' },
      /model_type is "gemma2"; it must be "llama" or .* or "mor"/,
    ],
    [
      'an architecture of other layers',
      { ...base, model_type: 'qwen2', qkv_bias: false },
      /model_type is "qwen2" but .*qkv_bias is false and qk_norm is false: leave .* "llama" or "mistral"/,
    ],
    ['llama with recursions', { ...recursive, model_type: 'llama' }, /model_type is "llama" but num_recursions is 3/],
    ['mor without recursions', { ...base, model_type: 'mor' }, /model_type is "mor" but num_recursions is 1/],
    [
      'a router without recursions',
      { ...base, router: { type: 'expert_choice' } },
      /router needs num_recursions above 1, and it is 1/,
    ],
    [
      'a router with sequence sharing',
      { ...expert, num_hidden_layers: 9, sharing: 'sequence' },
      /a router needs sharing "cycle" or "middle_cycle", and it is "sequence"/,
    ],
    [
      'shared KV without recursions',
      { ...base, kv_cache: 'shared' },
      /kv_cache "shared" needs num_recursions above 1, and it is 1/,
    ],
    [
      'shared KV with sequence sharing',
      { ...recursive, num_hidden_layers: 9, sharing: 'sequence', kv_cache: 'shared' },
      /kv_cache "shared" needs sharing "cycle" or "middle_cycle", and it is "sequence"/,
    ],
    [
      'hybrid KV with token-choice',
      { ...token, kv_cache: 'hybrid' },
      /kv_cache "hybrid" needs router.type "expert_choice", and it is "token_choice"/,
    ],
    ['hybrid KV without router', { ...recursive, kv_cache: 'hybrid' }, /hybrid.* and it is null/],
    ['a router of no type', { ...recursive, router: {} }, /router: type is missing/],
    [
      'softmax in expert-choice',
      { ...expert, router: { type: 'expert_choice', activation: 'softmax' } },
      /activation is "softmax"; it must be "sigmoid" or "tanh"/,
    ],
    [
      'tanh in token-choice',
      { ...token, router: { type: 'token_choice', activation: 'tanh' } },
      /activation is "tanh"; it must be "softmax" or "sigmoid"/,
    ],
    [
      'capacities in token-choice',
      { ...token, router: { type: 'token_choice', capacities: [1] } },
      /capacities belongs to type "expert_choice", and type is "token_choice"/,
    ],
    [
      'balancing in expert-choice',
      { ...expert, router: { type: 'expert_choice', balancing: 'loss' } },
      /balancing belongs to type "token_choice"/,
    ],
    [
      'selection in token-choice',
      { ...token, router: { type: 'token_choice', selection: 'threshold' } },
      /selection belongs to type "expert_choice", and type is "token_choice"/,
    ],
    [
      'a momentum without thresholds',
      { ...expert, router: { type: 'expert_choice', selection: 'topk', threshold_momentum: 0.5 } },
      /threshold_momentum belongs to selection "threshold", and selection is "topk"/,
    ],
    [
      'a threshold that never moves',
      { ...expert, router: { type: 'expert_choice', selection: 'threshold', threshold_momentum: 1 } },
      /threshold_momentum is 1; it must be a finite number >= 0 and < 1/,
    ],
    [
      'two ways of routing as generation does',
      { ...expert, router: { type: 'expert_choice', selection: 'threshold', auxiliary_router: true } },
      /selection is "threshold" and auxiliary_router is true: .* leave auxiliary_router out or set selection to "topk"/,
    ],
    [
      'two ways of balancing',
      { ...token, router: { type: 'token_choice', balancing: 'loss_free', balancing_loss_coefficient: 0.1 } },
      /balancing is "loss_free" but balancing_loss_coefficient is 0.1/,
    ],
    [
      'too few capacities',
      { ...expert, router: { type: 'expert_choice', capacities: [1, 0.5] } },
      /capacities is 2 numbers; num_recursions 3 needs/,
    ],
    [
      'rising capacities',
      { ...expert, router: { type: 'expert_choice', capacities: [1, 0.2, 0.5] } },
      /capacities\[2\] is 0.5, above capacities\[1\] 0.2/,
    ],
    [
      'a capacity of 0',
      { ...expert, router: { type: 'expert_choice', capacities: [1, 0.5, 0] } },
      /capacities\[2\] is 0; it must be a number > 0 and <= 1/,
    ],
    [
      'a capacity above 1',
      { ...expert, router: { type: 'expert_choice', capacities: [1.5, 1, 1] } },
      /capacities\[0\] is 1.5/,
    ],
  ])('%s', (_, config, message) => {
    expect(messageOf(config)).toMatch(message)
  })

  it.each<[string, number, number, string]>([
    ['middle_cycle', 9, 3, '8 or 11'],
    ['middle_cycle', 3, 3, '5'],
    ['middle_sequence', 31, 4, '30 or 34'],
    ['cycle', 10, 4, '8 or 12'],
    ['cycle', 2, 4, '4'],
    ['sequence', 7, 2, '6 or 8'],
    ['middle_cycle', 2, 2, '4'],
    ['middle_cycle', 1, 2, '4'],
  ])('%s of depth %i over %i recursions names the nearest valid depths %s', (sharing, depth, recursions, nearest) => {
    const message = messageOf({ ...base, sharing, num_hidden_layers: depth, num_recursions: recursions })
    expect(message).toContain(`num_hidden_layers ${depth} does not divide`)
    expect(message).toContain(`num_recursions ${recursions}`)
    expect(message.endsWith(`nearest valid num_hidden_layers: ${nearest}`), message).toBe(true)
    for (const valid of nearest.split(' or ')) {
      const config = { ...base, sharing, num_hidden_layers: Number(valid), num_recursions: recursions }
      expect(() => resolveConfig(config)).not.toThrow()
    }
  })
})

describe('toNativeConfig', () => {
  it('carries every value under the name of the addon', () => {
    const native = toNativeConfig(resolveConfig({ ...expert, kv_cache: 'hybrid', num_key_value_heads: 2 }))
    expect(native).toEqual({
      vocabSize: 256,
      hiddenSize: 64,
      intermediateSize: 172,
      numHiddenLayers: 8,
      numAttentionHeads: 4,
      numKeyValueHeads: 2,
      headDim: 16,
      qkvBias: false,
      qkNorm: false,
      maxPositionEmbeddings: 2048,
      ropeTheta: 10000,
      ropeScaling: null,
      rmsNormEps: 1e-5,
      tieWordEmbeddings: true,
      initializerRange: 0.02,
      numRecursions: 3,
      sharing: 'middle_cycle',
      kvCache: 'hybrid',
      router: {
        type: 'expert_choice',
        activation: 'sigmoid',
        architecture: 'linear',
        alpha: 0.1,
        gated: 'output',
        capacities: [],
        auxiliaryLossCoefficient: 0.001,
        zLossCoefficient: 0,
        balancingLossCoefficient: 0,
        balancing: 'loss',
        auxiliaryRouter: false,
        capacityWarmupSteps: 0,
        selection: 'threshold',
        thresholdMomentum: 0.5,
      },
    })
    const layer = { ...base, qkv_bias: true, qk_norm: true, rope_scaling: { rope_type: 'linear', factor: 2 } }
    const linear = { qkvBias: true, qkNorm: true, ropeScaling: { type: 'linear', factor: 2 } }
    expect(toNativeConfig(resolveConfig(layer))).toMatchObject(linear)
    const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 }
    const scaled = resolveConfig({ ...base, rope_scaling: { rope_type: 'llama3', ...llama3 } })
    expect(toNativeConfig(scaled).ropeScaling).toEqual({
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositionEmbeddings: 8192,
    })
    expect(toNativeConfig(resolveConfig(base)).router).toBeNull()
    expect(toNativeConfig(resolveConfig(token)).router).toMatchObject({
      type: 'token_choice',
      balancing: 'loss',
      balancingLossCoefficient: 0.1,
      zLossCoefficient: 0.001,
      auxiliaryLossCoefficient: 0,
    })
  })
})
