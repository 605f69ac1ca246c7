// config.json of Hugging Face folders as they are published, and what other programs leave in them.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { modelKind } from '../../lib/config.js'
import { configFileContent, resolveConfigFile } from '../../lib/config_file.js'
import { MorError } from '../../lib/errors.js'
import { published } from './published_configs.js'

type Name = keyof typeof published
const names = Object.keys(published) as Name[]
const llama = published['SmolLM2-135M']

const warn = vi.spyOn(process, 'emitWarning')
beforeEach(() => {
  warn.mockImplementation(() => {})
})
afterEach(() => {
  warn.mockReset()
})

function messageOf(file: unknown): string {
  try {
    resolveConfigFile(file, 'config.json')
  } catch (error) {
    expect(error).toBeInstanceOf(MorError)
    expect((error as MorError).code).toBe('INVALID_CONFIG')
    return (error as MorError).message
  }
  throw new Error(`accepted ${JSON.stringify(file)}`)
}

describe('published models', () => {
  it.each(names)('%s: every value is read, and nothing is said', (name) => {
    const config = resolveConfigFile(published[name], name)
    const { rope_scaling, ...file } = published[name] as Record<string, unknown>
    for (const [key, value] of Object.entries(file)) {
      if (key in config) expect(config[key as keyof typeof config], key).toEqual(value)
    }
    expect(config.rope_scaling).toEqual(rope_scaling ?? null)
    expect(modelKind(config)).toBe('vanilla')
    expect(warn).not.toHaveBeenCalled()
  })

  it('says what their layers are', () => {
    const layer = (name: Name) => {
      const { qkv_bias, qk_norm, head_dim } = resolveConfigFile(published[name], name)
      return { qkv_bias, qk_norm, head_dim }
    }
    expect(layer('Llama-3.2-1B')).toEqual({ qkv_bias: false, qk_norm: false, head_dim: 64 })
    expect(layer('Mistral-7B-v0.3')).toEqual({ qkv_bias: false, qk_norm: false, head_dim: 128 })
    expect(layer('Qwen2.5-0.5B')).toEqual({ qkv_bias: true, qk_norm: false, head_dim: 64 })
    expect(layer('Qwen3-0.6B')).toEqual({ qkv_bias: false, qk_norm: true, head_dim: 128 })
  })

  it.each(names)('%s is saved as an architecture of the same arithmetic, and reads the same again', (name) => {
    const config = resolveConfigFile(published[name], name)
    const content = configFileContent(config, 'bfloat16')
    const { model_type: type, architectures } = published[name]
    const expected = type === 'mistral' ? ['llama', ['LlamaForCausalLM']] : [type, architectures]
    expect([content.model_type, content.architectures]).toEqual(expected)
    expect(content).not.toHaveProperty('qkv_bias')
    expect(resolveConfigFile(JSON.parse(JSON.stringify(content)), 'config.json')).toEqual(config)
  })

  it('what no architecture of Hugging Face can say is saved as ours', () => {
    const { model_type, architectures, ...file } = published['Qwen3-0.6B']
    const config = resolveConfigFile({ ...file, qkv_bias: true, qk_norm: true }, 'config.json')
    const content = configFileContent(config, 'float32')
    expect(content).toMatchObject({ model_type: 'mor', qkv_bias: true, qk_norm: true, num_recursions: 1 })
    expect(resolveConfigFile(content, 'config.json')).toEqual(config)
    const recursive = { ...config, num_hidden_layers: 30, num_recursions: 2, sharing: 'middle_cycle', qkv_bias: false }
    expect(resolveConfigFile(recursive, 'config.json')).toMatchObject({ qk_norm: true, qkv_bias: false })
  })
})

describe('keys left out mean what they mean there', () => {
  const sizes = {
    vocab_size: 64,
    hidden_size: 64,
    intermediate_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 32,
  }
  it.each([
    [
      'llama',
      { num_key_value_heads: 32, head_dim: 2, max_position_embeddings: 2048, bos_token_id: 1, eos_token_id: 2 },
    ],
    [
      'qwen2',
      { num_key_value_heads: 32, head_dim: 2, max_position_embeddings: 32768, bos_token_id: null, eos_token_id: null },
    ],
    ['qwen3', { num_key_value_heads: 32, head_dim: 128, max_position_embeddings: 32768 }],
  ])('%s', (model_type, expected) => {
    const defaults = { rms_norm_eps: 1e-6, tie_word_embeddings: false, rope_theta: 10000, rope_scaling: null }
    expect(resolveConfigFile({ ...sizes, model_type }, 'config.json')).toMatchObject({ ...defaults, ...expected })
  })

  it('mistral, whose window is in use where nothing is said of it', () => {
    const mistral = { ...sizes, model_type: 'mistral' }
    expect(messageOf(mistral)).toMatch(/sliding_window is 4096/)
    const config = resolveConfigFile({ ...mistral, sliding_window: null }, 'config.json')
    expect(config).toMatchObject({ bos_token_id: 1, eos_token_id: 2 })
    expect(config).toMatchObject({ num_key_value_heads: 8, max_position_embeddings: 131072, rms_norm_eps: 1e-6 })
  })
})

describe('keys that change nothing', () => {
  it.each<[string, object]>([
    ['the tokenizer', { tokenizer_class: 'GPT2Tokenizer', pad_token_id: 0, unk_token_id: null, sep_token_id: null }],
    [
      'who made it',
      { _name_or_path: 'x', unsloth_version: '2025.1', unsloth_fixed: true, transformers_version: '5.0.0' },
    ],
    ['code of its own', { auto_map: { AutoConfig: 'configuration_x.XConfig' } }],
    ['how it was run', { use_cache: true, dtype: 'float16', attn_implementation: 'sdpa', pretraining_tp: 1 }],
    ['windows that are not in use', { sliding_window: null, max_window_layers: 28, use_sliding_window: false }],
    ['a window that is switched off', { sliding_window: 16, use_sliding_window: false }],
    ['a window as long as the context', { sliding_window: 8192 }],
    ['layers that all see everything', { layer_types: ['full_attention', 'full_attention'] }],
    ['what is not used', { quantization_config: null, num_experts: 0, logit_scale: null, residual_multiplier: 1 }],
    ['empty lists', { mlp_only_layers: [], quantization_config: {} }],
    ['what nobody knows and is off', { some_new_feature: false, another: null }],
  ])('%s: %j', (_, keys) => {
    expect(resolveConfigFile({ ...llama, ...keys }, 'config.json')).toEqual(resolveConfigFile(llama, 'config.json'))
    expect(warn).not.toHaveBeenCalled()
  })

  it.each([
    { unsloth_version: '2025.1' },
    { tokenizer_class: 'LlamaTokenizer' },
    { id2label: { 0: 'LABEL_0' }, label2id: { LABEL_0: 0 } },
    { max_sequence_length: 8192 },
    { _attn_implementation: 'eager', _attn_implementation_internal: 'eager', _flash_attn_2_enabled: true },
    { auto_map: { AutoModelForCausalLM: 'modeling_x.X' } },
    { torch_dtype: 'float32', dtype: 'bfloat16' },
    { rope_scaling: { rope_type: 'default' } },
    { rope_scaling: { rope_type: 'default', factor: 1, original_max_position_embeddings: null } },
    { rope_parameters: { rope_type: 'default', rope_theta: 100000 }, rope_scaling: {} },
    { bos_token: '<s>', eos_token: '</s>', padding_side: 'left' },
    { hidden_act: 'swish', hidden_activation: 'silu', activation_function: null },
    { mlp_bias: 0, attention_bias: null },
    { model_max_length: 1e30 },
  ])('%j, in files of any kind', (keys) => {
    const { model_type: _, ...nameless } = llama
    const ours = { ...nameless, model_type: 'mor', num_hidden_layers: 32, num_recursions: 3 }
    for (const file of [llama, nameless, ours]) {
      expect(resolveConfigFile({ ...file, ...keys }, 'config.json')).toEqual(resolveConfigFile(file, 'config.json'))
    }
    expect(warn).not.toHaveBeenCalled()
  })

  it('warns where another key names another context', () => {
    const file = { ...llama, max_sequence_length: 2048, n_ctx: 8192, seq_length: 16 }
    expect(resolveConfigFile(file, 'config.json').max_position_embeddings).toBe(8192)
    expect(warn.mock.calls).toEqual([
      [
        expect.stringMatching(
          /max_sequence_length is 2048, seq_length is 16, but max_position_embeddings is 8192, which/,
        ),
        { code: 'MOR_CONFIG_CONFLICT' },
      ],
    ])
  })

  it('warns once of keys that it does not know', () => {
    const expected = resolveConfigFile(llama, 'config.json')
    const file = { ...llama, num_recursion: 3, fancy: 1 }
    expect(resolveConfigFile(file, 'a/config.json')).toEqual(expected)
    expect(resolveConfigFile({ ...file, fancier: 2 }, 'b/config.json')).toEqual(expected)
    expect(warn.mock.calls.map(([message]) => message)).toEqual([
      expect.stringMatching(/^a\/config.json: .*"num_recursion" \(did you mean "num_recursions"\?\), "fancy"/),
      expect.stringMatching(/^b\/config.json: .*"fancier"/),
    ])
    expect(warn.mock.calls[1]![0]).not.toContain('"fancy"')
  })

  it('warns of a value of false whose key may be meant for another', () => {
    expect(resolveConfigFile({ ...llama, tied_word_embeddings: false, tie_word_embedding: null }, 'c')).toEqual(
      resolveConfigFile(llama, 'c'),
    )
    expect(warn.mock.calls.map(([message]) => message)).toEqual([
      expect.stringMatching(/"tied_word_embeddings" \(did you mean "tie_word_embeddings"\?\)$/),
    ])
  })

  it('is as strict as ever with models of our own and with files that do not say whose they are', () => {
    const { model_type: _, ...nameless } = llama
    expect(messageOf({ ...nameless, num_recursion: 3 })).toMatch(/unknown key "num_recursion" \(did you mean/)
    const ours = { ...nameless, model_type: 'mor', num_hidden_layers: 32, num_recursions: 3 }
    expect(resolveConfigFile(ours, 'config.json').num_recursions).toBe(3)
    expect(messageOf({ ...ours, fancier_routing: true })).toMatch(/unknown key "fancier_routing"/)
  })
})

describe('refusals by name', () => {
  it.each<[string, object, RegExp]>([
    ['a bias of all four projections', { attention_bias: true }, /attention_bias is true; only false is supported/],
    ['a bias in the feed-forward', { mlp_bias: true }, /mlp_bias is true/],
    ['quantised weights', { quantization_config: { quant_method: 'awq' } }, /quantization_config is \{/],
    ['experts', { num_local_experts: 8 }, /num_local_experts is 8/],
    ['soft caps', { attn_logit_softcapping: 50 }, /attn_logit_softcapping is 50/],
    ['multipliers', { residual_multiplier: 0.22 }, /residual_multiplier is 0.22; only 1 is supported/],
    ['another activation', { hidden_act: 'gelu' }, /hidden_act is "gelu"; only "silu" is supported/],
    ['half rotary embedding', { partial_rotary_factor: 0.5 }, /partial_rotary_factor is 0.5; only 1/],
    ['layers without positions', { no_rope_layers: [1, 0] }, /no_rope_layers is \[1,0\]/],
    [
      'a window in use',
      { sliding_window: 4096 },
      /sliding_window is 4096, shorter than max_position_embeddings 8192; .*not supported/,
    ],
    ['a window switched on', { sliding_window: 4096, use_sliding_window: true }, /sliding_window is 4096/],
    [
      'layers with windows',
      { layer_types: ['full_attention', 'sliding_attention'] },
      /layer_types .*"sliding_attention"/,
    ],
    ['a bias that Llama has not', { qkv_bias: true }, /model_type is "llama" but .*qkv_bias is true.* "qwen2"/],
    [
      'recursions of a Llama',
      { num_recursions: 3, num_hidden_layers: 32 },
      /model_type is "llama" but num_recursions is 3/,
    ],
    [
      'another activation in Gemma’s words',
      { hidden_activation: 'gelu_pytorch_tanh' },
      /hidden_activation is "gelu_pyt/,
    ],
    [
      'a class with other layers',
      { architectures: ['Qwen2ForCausalLM'] },
      /architectures holds "Qwen2ForCausalLM", whose model_type is "qwen2", but model_type is "llama", qkv_bias is false/,
    ],
    [
      'another family',
      { model_type: 'gemma2', attn_logit_softcapping: 50, cache_implementation: 'hybrid' },
      /model_type is "gemma2"; it must be "llama" or "mistral" or "qwen2"/,
    ],
  ])('%s: %j', (_, keys, message) => {
    expect(messageOf({ ...llama, ...keys })).toMatch(message)
  })

  it('is not an object', () => {
    expect(messageOf([1])).toMatch(/config.json is \[1\]; it must be an object/)
    expect(messageOf(null)).toMatch(/config.json is null; it must be an object/)
  })
})

describe('rotary scaling', () => {
  const { rope_scaling: _, rope_theta: __, ...plain } = llama
  const scalingOf = (keys: object) => resolveConfigFile({ ...plain, ...keys }, 'config.json').rope_scaling
  const llama3 = published['Llama-3.2-1B'].rope_scaling

  it('reads what older and newer files write', () => {
    expect(scalingOf({ rope_scaling: { type: 'linear', factor: 2 } })).toEqual({ rope_type: 'linear', factor: 2 })
    expect(scalingOf({ rope_scaling: { rope_type: 'linear', type: 'linear', factor: 4 } })).toMatchObject({ factor: 4 })
    expect(scalingOf({ rope_scaling: { rope_type: 'default' } })).toBeNull()
    expect(scalingOf({ rope_scaling: llama3 })).toEqual(llama3)
    const newer = { rope_parameters: { ...llama3, rope_theta: 500000 } }
    expect(scalingOf(newer)).toEqual(llama3)
    expect(resolveConfigFile({ ...plain, ...newer }, 'config.json').rope_theta).toBe(500000)
    expect(scalingOf({ rope_parameters: { rope_theta: 1e6, rope_type: 'default' }, rope_scaling: null })).toBeNull()
  })

  it('may be said twice if it is the same', () => {
    const linear = { rope_type: 'linear', factor: 2 }
    const twice = {
      rope_scaling: { ...linear, rope_theta: 7 },
      rope_parameters: { ...linear, rope_theta: 7 },
      rope_theta: 7,
    }
    const { rope_scaling, rope_theta } = resolveConfigFile({ ...plain, ...twice }, 'config.json')
    expect([rope_scaling, rope_theta]).toEqual([linear, 7])
    expect(resolveConfigFile({ ...plain, rope_scaling: { ...linear, rope_theta: 7 } }, 'config.json').rope_theta).toBe(
      7,
    )
    expect(scalingOf({ rope_scaling: { ...linear, high_freq_factor: null } })).toEqual(linear)
  })

  it.each<[string, object, RegExp]>([
    [
      'another kind',
      { rope_scaling: { rope_type: 'yarn', factor: 4 } },
      /rope_scaling: rope_type is "yarn"; it must be/,
    ],
    ['another kind, newer', { rope_parameters: { rope_type: 'longrope' } }, /rope_parameters: rope_type is "longrope"/],
    ['no kind', { rope_scaling: { factor: 4 } }, /rope_scaling: .*"factor"/],
    ['no factor', { rope_scaling: { type: 'linear' } }, /rope_scaling: factor is missing/],
    ['a factor that shrinks', { rope_scaling: { type: 'linear', factor: 0.5 } }, /factor is 0.5; .*>= 1/],
    ['no low frequency', { rope_scaling: { ...llama3, low_freq_factor: 0 } }, /low_freq_factor is 0; .* > 0/],
    [
      'an endless high one',
      { rope_scaling: { ...llama3, high_freq_factor: Infinity } },
      /high_freq_factor is Infinity/,
    ],
    ['equal frequencies', { rope_scaling: { ...llama3, low_freq_factor: 4 } }, /high_freq_factor is 4; .* > 4/],
    [
      'no first context',
      { rope_scaling: { ...llama3, original_max_position_embeddings: 0 } },
      /original_max_position_embeddings is 0; .* from 1 to/,
    ],
    ['a key that linear has not', { rope_scaling: { type: 'linear', factor: 2, beta_fast: 32 } }, /"beta_fast"/],
    ['half of it', { rope_parameters: { partial_rotary_factor: 0.5 } }, /partial_rotary_factor is 0.5/],
    [
      'frequencies the wrong way round',
      { rope_scaling: { ...llama3, low_freq_factor: 4, high_freq_factor: 1 } },
      /high_freq_factor is 1; .* > 4/,
    ],
    [
      'a base in the scaling',
      { rope_theta: 1, rope_scaling: { ...llama3, rope_theta: 2 } },
      /1 .*rope_scaling.rope_theta is 2/,
    ],
    [
      'bases in both',
      { rope_scaling: { rope_type: 'default', rope_theta: 3 }, rope_parameters: { rope_theta: 2 } },
      /rope_scaling.rope_theta is 3 and rope_parameters.rope_theta is 2/,
    ],
    ['two kinds', { rope_scaling: { ...llama3, type: 'linear' } }, /rope_type is "llama3" and type is "linear"/],
    [
      'a scaling in one of two',
      { rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: { rope_type: 'default' } },
      /rope_scaling scales by .*"factor":2.* and rope_parameters by null; make them equal/,
    ],
    [
      'a factor of no scaling',
      { rope_scaling: { rope_type: 'default', factor: 4 } },
      /"factor" is 4, but rope_type "default"/,
    ],
    ['two bases', { rope_theta: 1, rope_parameters: { rope_theta: 2 } }, /rope_theta is 1 .*rope_parameters.* 2/],
    [
      'two scalings',
      { rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: llama3 },
      /rope_scaling .*rope_parameters/,
    ],
    ['one for each kind of layer', { rope_parameters: { full_attention: llama3 } }, /"full_attention"/],
  ])('refuses %s', (_name, keys, message) => {
    expect(messageOf({ ...plain, ...keys })).toMatch(message)
  })
})
