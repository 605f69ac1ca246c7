// A vanilla model as a GGUF file for llama.cpp: its metadata, and its tensors in that file's order of rows.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { modelTypesOf } from '../architectures.js'
import { ChatTemplate } from '../chat/chat_template.js'
import type { ResolvedConfig } from '../config.js'
import type { RopeScaling } from '../config_rope.js'
import { MorError } from '../errors.js'
import type { NativeDerivedFile, NativeDerivedTensor, SafetensorsFloat } from '../native/files.js'
import { tensorBytes } from '../safetensors.js'
import { tokenizerFileName } from '../tokenizer/files.js'
import { Tokenizer } from '../tokenizer.js'
import { ggufArchitectures } from './config.js'
import { ggufName, isInterleaved, ropeFactorsName, ropeScalingKey } from './format.js'
import { ropeFactors } from './rope_factors.js'
import { bool, float32, ggufHeader, paddingOf, string, type TypedValue, uint32 } from './values.js'
import { vocabularyMetadata } from './vocabulary.js'

/** `general.file_type`: what most matrices are. */
const fileTypes: Record<SafetensorsFloat, number> = { F32: 0, F16: 1, BF16: 32 }

type Tensor = Omit<NativeDerivedTensor, 'padding'>

/**
 * The file `name`. Matrices keep the dtype that `tensors` have; vectors become F32, which llama.cpp requires.
 * @param folder has the files of the model's tokenizer and chat template, if it has any
 * @throws {MorError} INVALID_ARGUMENT for a model that is not vanilla, CHECKPOINT_INVALID for a tokenizer that GGUF cannot describe
 */
export async function ggufFile(
  name: string,
  config: ResolvedConfig,
  tensors: readonly Tensor[],
  folder: string,
): Promise<NativeDerivedFile> {
  const architecture = modelTypesOf(config)[0]!
  if (!(ggufArchitectures as readonly string[]).includes(architecture)) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `a model of ${config.num_recursions} recursions, qkv_bias ${config.qkv_bias} and qk_norm ${config.qk_norm} cannot be a GGUF file, which ` +
        'holds vanilla models: give a folder as the output',
    )
  }
  const { head_dim, num_attention_heads: heads, hidden_size } = config
  if (architecture === 'qwen2' && head_dim * heads !== hidden_size) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `${heads} heads of ${head_dim} are not hidden_size ${hidden_size}, which llama.cpp needs of a model with qkv_bias: give a folder as the output`,
    )
  }
  const written = [...tensors.map((tensor) => translated(tensor, config, architecture)), ...ropeTensors(config)]
  const matrix = tensors[0]!.dtype
  const metadata: [string, TypedValue][] = [
    ['general.architecture', string(architecture)],
    ['general.file_type', uint32(fileTypes[matrix])],
    ...modelMetadata(config).map(([key, value]): [string, TypedValue] => [`${architecture}.${key}`, value]),
    ...(config.rope_scaling?.rope_type === 'llama3' ? [scalingMetadata(config.rope_scaling)] : []),
    ...(await textMetadata(config, folder)),
  ]
  const padded = written.map((tensor) => ({ ...tensor, padding: paddingOf(tensorBytes(tensor.dtype, tensor.shape)) }))
  return { name, head: ggufHeader(metadata, written), tensors: padded }
}

function translated(tensor: Tensor, config: ResolvedConfig, architecture: string): Tensor {
  const name = ggufName(tensor.name)!
  const dtype = tensor.shape.length === 1 ? 'F32' : tensor.dtype
  const projection = architecture === 'llama' ? isInterleaved(tensor.name) : null
  if (projection === null) return { ...tensor, name, dtype }
  const heads = projection === 'q' ? config.num_attention_heads : config.num_key_value_heads
  // What comes from such a file is in its order already.
  return { ...tensor, name, dtype, rowOrder: tensor.rowOrder === undefined ? { heads, interleaves: true } : undefined }
}

function ropeTensors({ rope_scaling: scaling, rope_theta, head_dim }: ResolvedConfig): Tensor[] {
  if (scaling?.rope_type !== 'llama3') return []
  const values = ropeFactors(scaling, rope_theta, head_dim)
  return [{ name: ropeFactorsName, dtype: 'F32', shape: [values.length], sources: [], values }]
}

function modelMetadata(config: ResolvedConfig): [string, TypedValue][] {
  const { rope_scaling: scaling } = config
  return [
    ['vocab_size', uint32(config.vocab_size)],
    ['context_length', uint32(config.max_position_embeddings)],
    ['embedding_length', uint32(config.hidden_size)],
    ['block_count', uint32(config.num_hidden_layers)],
    ['feed_forward_length', uint32(config.intermediate_size)],
    ['attention.head_count', uint32(config.num_attention_heads)],
    ['attention.head_count_kv', uint32(config.num_key_value_heads)],
    ['attention.key_length', uint32(config.head_dim)],
    ['attention.value_length', uint32(config.head_dim)],
    ['attention.layer_norm_rms_epsilon', float32(config.rms_norm_eps)],
    ['rope.dimension_count', uint32(config.head_dim)],
    ['rope.freq_base', float32(config.rope_theta)],
    ...(scaling?.rope_type === 'linear'
      ? ([
          ['rope.scaling.type', string('linear')],
          ['rope.scaling.factor', float32(scaling.factor)],
        ] as [string, TypedValue][])
      : []),
  ]
}

/** The options of llama3 scaling, which llama.cpp has only as factors: several options can give the same. */
function scalingMetadata(scaling: RopeScaling): [string, TypedValue] {
  return [ropeScalingKey, string(JSON.stringify(scaling))]
}

/** Vocabulary, begin and end tokens, chat template. */
async function textMetadata(config: ResolvedConfig, folder: string): Promise<[string, TypedValue][]> {
  const text = await readFile(join(folder, tokenizerFileName), 'utf8').catch(() => null)
  if (text === null) return [['tokenizer.ggml.model', string('none')], ...endMetadata(config, null)]
  const tokenizer = await Tokenizer.load(folder)
  const template = await ChatTemplate.load(folder)
  const { before, after } = tokenizer.around
  return [
    ...vocabularyMetadata(JSON.parse(text), config.vocab_size, folder),
    ...endMetadata(config, tokenizer),
    ['tokenizer.ggml.add_bos_token', bool(before.includes(tokenizer.bosTokenId!))],
    ['tokenizer.ggml.add_eos_token', bool(after.includes(tokenizer.eosTokenId!))],
    ...(template === null ? [] : ([['tokenizer.chat_template', string(template.source)]] as [string, TypedValue][])),
  ]
}

/** The begin token is the tokenizer's, which puts it before texts; generation ends at the tokens of the model. */
function endMetadata(config: ResolvedConfig, tokenizer: Tokenizer | null): [string, TypedValue][] {
  const ends = [config.eos_token_id ?? tokenizer?.eosTokenId ?? []].flat()
  const bos = tokenizer?.bosTokenId ?? config.bos_token_id
  if (ends.length > 3) {
    const others = ends.slice(3).join(', ')
    const text = `a GGUF file names at most 3 end tokens: generation from it does not end at ${others}, which the model ends at`
    process.emitWarning(text, { code: 'MOR_GGUF_END_TOKENS' })
  }
  const ids = { bos, eos: ends[0] ?? null, eot: ends[1] ?? null, eom: ends[2] ?? null }
  return Object.entries(ids).flatMap(([kind, id]): [string, TypedValue][] =>
    id === null ? [] : [[`tokenizer.ggml.${kind}_token_id`, uint32(id)]],
  )
}
