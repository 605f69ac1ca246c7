// The configuration that the metadata of a GGUF file describes.
import { architectures } from '../architectures.js'
import { Checker, show } from '../check.js'
import { type ModelConfig, type ResolvedConfig, resolveConfig } from '../config.js'
import { type RopeScaling, resolveRope } from '../config_rope.js'
import { suggestion } from '../suggest.js'
import type { GgufValue } from './cursor.js'
import { ropeScalingKey } from './format.js'
import { fail, type GgufFile } from './reader.js'
import { givesFactors, scalingOf } from './rope_factors.js'

/** The architectures of llama.cpp that are read; each has the layers of Hugging Face's of the same name. */
export const ggufArchitectures = ['llama', 'qwen2', 'qwen3'] as const
export type GgufArchitecture = (typeof ggufArchitectures)[number]

/** Numbers that stand for no token. */
const NO_TOKEN = 0xffffffff

/** Keys of an architecture that change what a layer computes; what they ask for unless they are 0 or false is not supported. */
const unsupported = [
  'expert_count',
  'attention.clamp_kqv',
  'attention.max_alibi_bias',
  'use_parallel_residual',
  'logit_scale',
  'embedding_scale',
  'residual_scale',
  'attention.scale',
  'attn_logit_softcapping',
  'final_logit_softcapping',
]

/** @param ropeFactors the values of rope_freqs.weight; null where there is no such tensor */
export function ggufConfig(file: GgufFile, ropeFactors: Float32Array | null): ResolvedConfig {
  const read = new Metadata(file)
  const layer = architectures[read.architecture].layer
  const names = new Set(file.tensors.map(({ name }) => name))
  const embedding = file.tensors.find(({ name }) => name === 'token_embd.weight')
  if (embedding === undefined) fail(file.path, 'without token_embd.weight: is it the whole model?')
  const heads = read.number('attention.head_count')
  const hiddenSize = read.number('embedding_length')
  const headDim = read.number('attention.key_length', hiddenSize / heads)
  for (const key of ['attention.value_length', 'rope.dimension_count']) {
    const value = read.number(key, headDim)
    if (value !== headDim)
      fail(file.path, `whose ${read.key(key)} is ${value}, and heads have ${headDim}: only equal ones are supported`)
  }
  const context = read.number('context_length')
  const theta = read.number('rope.freq_base', 10000)
  const config: ModelConfig = {
    vocab_size: embedding.shape[0]!,
    hidden_size: hiddenSize,
    intermediate_size: read.number('feed_forward_length'),
    num_hidden_layers: read.number('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: read.number('attention.head_count_kv', heads),
    head_dim: headDim,
    qkv_bias: layer.qkv_bias || names.has('blk.0.attn_q.bias'),
    qk_norm: layer.qk_norm,
    max_position_embeddings: context,
    rope_theta: theta,
    rope_scaling: ropeScaling(read, ropeFactors, { theta, headDim }),
    rms_norm_eps: read.number('attention.layer_norm_rms_epsilon'),
    tie_word_embeddings: !names.has('output.weight'),
    bos_token_id: read.token('bos'),
    eos_token_id: endTokens(read),
  }
  checkSupported(read, context)
  return resolveConfig(config, file.path)
}

/** What ends a text, and what ends a turn of a conversation. */
function endTokens(read: Metadata): number | number[] | null {
  const ids = [...new Set(['eos', 'eot', 'eom'].map((kind) => read.token(kind)).filter((id) => id !== null))]
  return ids.length > 1 ? ids : (ids[0] ?? null)
}

function checkSupported(read: Metadata, context: number): void {
  for (const key of unsupported) {
    const value = read.value(key)
    if (value)
      fail(read.file.path, `whose ${read.key(key)} is ${show(value)}, which is not supported: the model would be wrong`)
  }
  const window = read.number('attention.sliding_window', 0)
  if (window > 0 && window < context) {
    fail(
      read.file.path,
      `whose ${read.key('attention.sliding_window')} is ${window}, shorter than its context ${context}: not supported`,
    )
  }
}

function ropeScaling(
  read: Metadata,
  factors: Float32Array | null,
  { theta, headDim }: { theta: number; headDim: number },
): RopeScaling | null {
  // llama.cpp scales by a factor where no type is given, and does not where the type is "none".
  const type = read.value('rope.scaling.type') ?? 'linear'
  const factor = type === 'none' ? 1 : read.number('rope.scaling.factor', read.number('rope.scale_linear', 1))
  if (type !== 'none' && type !== 'linear') {
    fail(
      read.file.path,
      `whose ${read.key('rope.scaling.type')} is ${show(type)}: only "none" and "linear" are supported`,
    )
  }
  const linear = factor !== 0 && factor !== 1 ? ({ rope_type: 'linear', factor } as const) : null
  if (factors === null) return linear
  if (linear !== null)
    fail(read.file.path, `that scales by rope_freqs.weight and by ${read.key('rope.scaling.factor')}`)
  if (factors.length !== headDim / 2)
    fail(read.file.path, `whose rope_freqs.weight has ${factors.length} factors for heads of ${headDim}`)
  if (factors.every((value) => value === 1)) return null
  const said = saidScaling(read.file)
  const scaling =
    said !== null && givesFactors(said, factors, theta, headDim) ? said : scalingOf(factors, theta, headDim)
  return (
    scaling ??
    fail(
      read.file.path,
      'whose rope_freqs.weight holds other factors than those of Llama 3.1: give the Hugging Face folder',
    )
  )
}

/** The options as this package's files have them. */
function saidScaling(file: GgufFile): RopeScaling | null {
  const text = file.metadata.get(ropeScalingKey)
  try {
    return typeof text === 'string'
      ? resolveRope(new Checker({ rope_scaling: JSON.parse(text) }, file.path)).rope_scaling
      : null
  } catch {
    return null
  }
}

/** The values of one architecture. */
class Metadata {
  readonly architecture: GgufArchitecture

  constructor(readonly file: GgufFile) {
    const named = file.metadata.get('general.architecture')
    if (!ggufArchitectures.includes(named as GgufArchitecture)) {
      const near = typeof named === 'string' ? suggestion(named, ggufArchitectures) : ''
      fail(
        file.path,
        `whose general.architecture is ${show(named)}; ${ggufArchitectures.map(show).join(', ')} are read${near}`,
      )
    }
    this.architecture = named as GgufArchitecture
    const parts = file.metadata.get('split.count')
    if (typeof parts === 'number' && parts > 1) {
      fail(file.path, `of ${parts} that are one model: make one file of them with llama-gguf-split --merge`)
    }
  }

  key(key: string): string {
    return `${this.architecture}.${key}`
  }

  value(key: string): GgufValue | undefined {
    return this.file.metadata.get(this.key(key))
  }

  number(key: string, fallback?: number): number {
    const value = this.value(key) ?? fallback
    // Some files have a number for each layer.
    const one = Array.isArray(value) && value.every((item) => item === value[0]) ? value[0] : value
    if (typeof one === 'number') return shortest(one)
    return fail(this.file.path, `whose ${this.key(key)} is ${show(value)}; it must be a number`)
  }

  token(kind: string): number | null {
    const value = this.file.metadata.get(`tokenizer.ggml.${kind}_token_id`)
    return typeof value === 'number' && value !== NO_TOKEN ? value : null
  }
}

/** The number with the fewest digits that is the same float32: 1e-5 is stored as 9.999999747378752e-6. */
function shortest(value: number): number {
  if (Number.isInteger(value)) return value
  for (let digits = 1; digits < 10; digits++) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === Math.fround(value)) return short
  }
  return value
}
