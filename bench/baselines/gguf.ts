// Writes a vanilla Llama checkpoint folder as one GGUF (version 3) file for llama.cpp, weights unchanged. The vocabulary in
// it is made up, so the file serves benches only.
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { ResolvedConfig } from '../../lib/config.js'
import { readConfigFile } from '../../lib/config_file.js'
import { readSafetensorsFile, type TensorEntry } from '../../lib/safetensors.js'

const alignment = 32
const type = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9 } as const
const tensorType = { F32: 0, BF16: 30 } as const

/** GGUF's names of the tensors; `rows` marks those whose rows GGUF stores in another order. */
const tensorNames: [pattern: RegExp, name: string, rows?: 'query' | 'key'][] = [
  [/^model\.embed_tokens\.weight$/, 'token_embd.weight'],
  [/^model\.norm\.weight$/, 'output_norm.weight'],
  [/^lm_head\.weight$/, 'output.weight'],
  [/^model\.layers\.(\d+)\.input_layernorm\.weight$/, 'blk.$1.attn_norm.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.q_proj\.weight$/, 'blk.$1.attn_q.weight', 'query'],
  [/^model\.layers\.(\d+)\.self_attn\.k_proj\.weight$/, 'blk.$1.attn_k.weight', 'key'],
  [/^model\.layers\.(\d+)\.self_attn\.v_proj\.weight$/, 'blk.$1.attn_v.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\.weight$/, 'blk.$1.attn_output.weight'],
  [/^model\.layers\.(\d+)\.post_attention_layernorm\.weight$/, 'blk.$1.ffn_norm.weight'],
  [/^model\.layers\.(\d+)\.mlp\.gate_proj\.weight$/, 'blk.$1.ffn_gate.weight'],
  [/^model\.layers\.(\d+)\.mlp\.up_proj\.weight$/, 'blk.$1.ffn_up.weight'],
  [/^model\.layers\.(\d+)\.mlp\.down_proj\.weight$/, 'blk.$1.ffn_down.weight'],
]

/**
 * Matrices keep their dtype (BF16 or F32); vectors become F32, which llama.cpp requires.
 * @param folder contains config.json and one model.safetensors of BF16 or F32 tensors.
 * @throws {Error} for a tensor that a Llama in GGUF has no name for, or of another dtype.
 */
export async function writeGguf(folder: string, path: string): Promise<void> {
  const config = await readConfigFile(folder)
  const { tensors, path: source } = await readSafetensorsFile(join(folder, 'model.safetensors'))
  const planned = tensors.map(plan)
  const from = await open(source, 'r')
  const to = await open(path, 'w')
  try {
    await to.writeFile(header(config, planned))
    for (const tensor of planned) await to.writeFile(padded(await tensorData(from, tensor, config)))
  } finally {
    await from.close()
    await to.close()
  }
}

interface PlannedTensor {
  entry: TensorEntry
  name: string
  rows: 'query' | 'key' | undefined
  type: keyof typeof tensorType
}

function plan(entry: TensorEntry): PlannedTensor {
  const match = tensorNames.find(([pattern]) => pattern.test(entry.name))
  if (match === undefined) throw new Error(`${entry.name} has no name in a Llama's GGUF file`)
  if (entry.dtype !== 'BF16' && entry.dtype !== 'F32')
    throw new Error(`${entry.name} is ${entry.dtype}, not BF16 or F32`)
  const [pattern, name, rows] = match
  return { entry, name: entry.name.replace(pattern, name), rows, type: entry.shape.length === 1 ? 'F32' : entry.dtype }
}

/** The part of the file before the data: magic, version, counts, metadata, tensor directory, padding. */
function header(config: ResolvedConfig, tensors: PlannedTensor[]): Buffer {
  const vocabulary = syntheticVocabulary(config.vocab_size)
  const metadata: [key: string, value: Buffer][] = [
    ['general.architecture', typed(type.string, string('llama'))],
    ['general.alignment', integer(alignment)],
    ['llama.vocab_size', integer(config.vocab_size)],
    ['llama.context_length', integer(config.max_position_embeddings)],
    ['llama.embedding_length', integer(config.hidden_size)],
    ['llama.block_count', integer(config.num_hidden_layers)],
    ['llama.feed_forward_length', integer(config.intermediate_size)],
    ['llama.attention.head_count', integer(config.num_attention_heads)],
    ['llama.attention.head_count_kv', integer(config.num_key_value_heads)],
    ['llama.attention.key_length', integer(config.head_dim)],
    ['llama.attention.value_length', integer(config.head_dim)],
    ['llama.attention.layer_norm_rms_epsilon', typed(type.float32, float32(config.rms_norm_eps))],
    ['llama.rope.dimension_count', integer(config.head_dim)],
    ['llama.rope.freq_base', typed(type.float32, float32(config.rope_theta))],
    ['tokenizer.ggml.model', typed(type.string, string('llama'))],
    [
      'tokenizer.ggml.tokens',
      array(
        type.string,
        vocabulary.map(({ text }) => string(text)),
      ),
    ],
    [
      'tokenizer.ggml.scores',
      array(
        type.float32,
        vocabulary.map((_, id) => float32(-id)),
      ),
    ],
    [
      'tokenizer.ggml.token_type',
      array(
        type.int32,
        vocabulary.map(({ kind }) => uint32(kind)),
      ),
    ],
    ['tokenizer.ggml.unknown_token_id', integer(0)],
    ['tokenizer.ggml.bos_token_id', integer(1)],
    ['tokenizer.ggml.eos_token_id', integer(2)],
  ]
  let offset = 0
  const directory = tensors.flatMap(({ entry, name, type }) => {
    const extents = [...entry.shape].reverse().map(uint64) // GGUF names the contiguous extent first
    const lines = [string(name), uint32(extents.length), ...extents, uint32(tensorType[type]), uint64(offset)]
    offset += Math.ceil(dataBytes(entry, type) / alignment) * alignment
    return lines
  })
  const counts = [uint32(3), uint64(tensors.length), uint64(metadata.length)]
  const pairs = metadata.flatMap(([key, value]) => [string(key), value])
  return padded(Buffer.concat([Buffer.from('GGUF'), ...counts, ...pairs, ...directory]))
}

/** A vocabulary that llama.cpp loads as SentencePiece's: <unk>, <s>, </s>, the 256 bytes, then made-up pieces. */
function syntheticVocabulary(size: number): { text: string; kind: number }[] {
  const [normal, unknown, control, byte] = [1, 2, 3, 6]
  return Array.from({ length: size }, (_, id) => {
    if (id === 0) return { text: '<unk>', kind: unknown }
    if (id < 3) return { text: id === 1 ? '<s>' : '</s>', kind: control }
    if (id < 259) return { text: `<0x${(id - 3).toString(16).toUpperCase().padStart(2, '0')}>`, kind: byte }
    return { text: `▁t${id}`, kind: normal }
  })
}

function dataBytes(entry: TensorEntry, type: keyof typeof tensorType): number {
  return entry.shape.reduce((product, extent) => product * extent, type === 'F32' ? 4 : 2)
}

async function tensorData(from: FileHandle, tensor: PlannedTensor, config: ResolvedConfig): Promise<Buffer> {
  const { entry, rows } = tensor
  const data = Buffer.alloc(entry.bytes)
  const { bytesRead } = await from.read(data, 0, entry.bytes, entry.offset)
  if (bytesRead !== entry.bytes) throw new Error(`${entry.name}: read ${bytesRead} of ${entry.bytes} bytes`)
  if (entry.dtype === 'BF16' && tensor.type === 'F32') return widened(data)
  if (rows === undefined) return data
  return interleaved(data, rows === 'query' ? config.num_attention_heads : config.num_key_value_heads, config.head_dim)
}

/** Converts BF16 to F32, whose upper half is the same and whose lower half is zero. */
function widened(data: Buffer): Buffer {
  const out = Buffer.alloc(data.length * 2)
  for (let i = 0; i < data.length; i += 2) data.copy(out, 2 * i + 2, i, i + 2)
  return out
}

/**
 * Reorders the rows of rotary pairs: rows i and i + D/2 of a head are a pair in Hugging Face's layout, rows 2i and 2i + 1 in
 * that of llama.cpp's Llama.
 * @param data [heads * headDim, columns]
 */
function interleaved(data: Buffer, heads: number, headDim: number): Buffer {
  const out = Buffer.alloc(data.length)
  const rowBytes = data.length / (heads * headDim)
  const half = headDim / 2
  for (let row = 0; row < heads * headDim; row++) {
    const [head, within] = [Math.floor(row / headDim), row % headDim]
    const target = head * headDim + (within % half) * 2 + Math.floor(within / half)
    data.copy(out, target * rowBytes, row * rowBytes, (row + 1) * rowBytes)
  }
  return out
}

function padded(data: Buffer): Buffer {
  const total = Math.ceil(data.length / alignment) * alignment
  return total === data.length ? data : Buffer.concat([data, Buffer.alloc(total - data.length)])
}

// The bytes of GGUF's values, little-endian as those of every machine that llama.cpp's binaries here run on.
const uint32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer)
const uint64 = (value: number): Buffer => Buffer.from(BigUint64Array.of(BigInt(value)).buffer)
const float32 = (value: number): Buffer => Buffer.from(Float32Array.of(value).buffer)
const string = (text: string): Buffer => Buffer.concat([uint64(Buffer.byteLength(text)), Buffer.from(text)])
const typed = (kind: number, value: Buffer): Buffer => Buffer.concat([uint32(kind), value])
const integer = (value: number): Buffer => typed(type.uint32, uint32(value))
const array = (kind: number, items: readonly Buffer[]): Buffer =>
  typed(type.array, Buffer.concat([uint32(kind), uint64(items.length), ...items]))
