// The numbers and names of GGUF, the file format of llama.cpp: types of values and of tensors, and what tensors are called.
import type { SafetensorsFloat } from '../native/files.js'

export const magic = 'GGUF'
/** Written; 2 is read too. */
export const version = 3
/** Of the data and of every tensor in it, unless `general.alignment` says otherwise. */
export const defaultAlignment = 32

/** Types of metadata values. */
export const valueType = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
} as const

/** Types of tensors that are read and written. */
export const tensorTypes: Readonly<Record<SafetensorsFloat, number>> = { F32: 0, F16: 1, BF16: 30 }

/** The names of the others, for messages. */
const otherTypes: Readonly<Record<number, string>> = {
  2: 'Q4_0',
  3: 'Q4_1',
  6: 'Q5_0',
  7: 'Q5_1',
  8: 'Q8_0',
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  12: 'Q4_K',
  13: 'Q5_K',
  14: 'Q6_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
}

/** One that is read, or else the name of one that is not. */
export function tensorTypeOf(type: number): { dtype: SafetensorsFloat } | { unread: string } {
  const dtype = (Object.keys(tensorTypes) as SafetensorsFloat[]).find((name) => tensorTypes[name] === type)
  return dtype === undefined ? { unread: otherTypes[type] ?? `of the unknown type ${type}` } : { dtype }
}

/** Types of tokens. */
export const tokenType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const

/** The name of every tensor in Hugging Face's files and in GGUF; `{}` is the number of a layer. */
const names: [huggingFace: string, gguf: string][] = [
  ['model.embed_tokens', 'token_embd'],
  ['model.norm', 'output_norm'],
  ['lm_head', 'output'],
  ['model.layers.{}.input_layernorm', 'blk.{}.attn_norm'],
  ['model.layers.{}.self_attn.q_proj', 'blk.{}.attn_q'],
  ['model.layers.{}.self_attn.k_proj', 'blk.{}.attn_k'],
  ['model.layers.{}.self_attn.v_proj', 'blk.{}.attn_v'],
  ['model.layers.{}.self_attn.o_proj', 'blk.{}.attn_output'],
  ['model.layers.{}.self_attn.q_norm', 'blk.{}.attn_q_norm'],
  ['model.layers.{}.self_attn.k_norm', 'blk.{}.attn_k_norm'],
  ['model.layers.{}.post_attention_layernorm', 'blk.{}.ffn_norm'],
  ['model.layers.{}.mlp.gate_proj', 'blk.{}.ffn_gate'],
  ['model.layers.{}.mlp.up_proj', 'blk.{}.ffn_up'],
  ['model.layers.{}.mlp.down_proj', 'blk.{}.ffn_down'],
]
const toGguf = new Map(names)
const toHuggingFace = new Map(names.map(([huggingFace, gguf]) => [gguf, huggingFace]))

/** GGUF's name of a tensor of Hugging Face's; null where it has none. */
export const ggufName = (name: string) => translate(name, toGguf)
/** The other way. */
export const huggingFaceName = (name: string) => translate(name, toHuggingFace)

function translate(name: string, table: ReadonlyMap<string, string>): string | null {
  const [, stem, ending] = /^(.*)\.(weight|bias)$/.exec(name) ?? []
  if (stem === undefined) return null
  const layer = /\d+/.exec(stem)?.[0] ?? ''
  const other = table.get(layer === '' ? stem : stem.replace(layer, '{}'))
  return other === undefined ? null : `${other.replace('{}', layer)}.${ending}`
}

/** The tensor of the factors by which llama3 scaling divides the frequencies of rotary embedding, [head_dim / 2]. */
export const ropeFactorsName = 'rope_freqs.weight'

/** The key, of this package's files only, of the options that gave those factors: a `RopeScaling` as JSON. */
export const ropeScalingKey = 'mor.rope_scaling'

/** The projections whose rows llama.cpp keeps in another order in models of the architecture `llama`. */
export function isInterleaved(name: string): 'q' | 'k' | null {
  return (/\.self_attn\.([qk])_proj\.(weight|bias)$/.exec(name)?.[1] as 'q' | 'k' | undefined) ?? null
}
