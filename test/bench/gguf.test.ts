// Checks the GGUF file that the generation rival reads with a reader written here from the format's description and, where
// the shared data is present, against a file of the same weights that another program made.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeGguf } from '../../bench/baselines/gguf.js'
import { buildSafetensorsHeader } from '../../lib/safetensors.js'
import { sharedData } from '../lib/shared_data.js'

interface Gguf {
  version: number
  metadata: Record<string, unknown>
  tensors: Record<string, { extents: number[]; type: number; offset: number }>
  data: Buffer
}

function readGguf(path: string): Gguf {
  const file = readFileSync(path)
  expect(file.toString('latin1', 0, 4)).toBe('GGUF')
  let at = 4
  const take = (bytes: number): number => {
    at += bytes
    return at - bytes
  }
  const u32 = (): number => file.readUInt32LE(take(4))
  const u64 = (): number => Number(file.readBigUInt64LE(take(8)))
  const text = (): string => {
    const length = u64()
    return file.toString('utf8', take(length), at)
  }
  const value = (type: number): unknown => {
    if (type === 4) return u32()
    if (type === 5) return file.readInt32LE(take(4))
    if (type === 6) return file.readFloatLE(take(4))
    if (type === 7) return file.readUInt8(take(1)) !== 0
    if (type === 8) return text()
    if (type !== 9) throw new Error(`a value of type ${type}`)
    const element = u32()
    return Array.from({ length: u64() }, () => value(element))
  }
  const version = u32()
  const [tensorCount, metadataCount] = [u64(), u64()]
  const metadata = Object.fromEntries(Array.from({ length: metadataCount }, () => [text(), value(u32())]))
  const tensors = Object.fromEntries(
    Array.from({ length: tensorCount }, () => {
      const name = text()
      const extents = Array.from({ length: u32() }, u64)
      return [name, { extents, type: u32(), offset: u64() }]
    }),
  )
  const alignment = (metadata['general.alignment'] as number | undefined) ?? 32
  return { version, metadata, tensors, data: file.subarray(Math.ceil(at / alignment) * alignment) }
}

/** One layer, two heads of four, one key head; every element of a tensor is its own index, exact in bf16. */
const config = {
  model_type: 'llama',
  vocab_size: 260,
  hidden_size: 8,
  intermediate_size: 5,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 4,
  max_position_embeddings: 32,
  rms_norm_eps: 1e-5,
  rope_theta: 500,
  tie_word_embeddings: true,
}
const layer = 'model.layers.0'
const shapes: Record<string, number[]> = {
  'model.embed_tokens.weight': [260, 8],
  [`${layer}.input_layernorm.weight`]: [8],
  [`${layer}.self_attn.q_proj.weight`]: [8, 8],
  [`${layer}.self_attn.k_proj.weight`]: [4, 8],
  [`${layer}.self_attn.v_proj.weight`]: [4, 8],
  [`${layer}.self_attn.o_proj.weight`]: [8, 8],
  [`${layer}.post_attention_layernorm.weight`]: [8],
  [`${layer}.mlp.gate_proj.weight`]: [5, 8],
  [`${layer}.mlp.up_proj.weight`]: [5, 8],
  [`${layer}.mlp.down_proj.weight`]: [8, 5],
  'model.norm.weight': [8],
}

const folder = mkdtempSync(join(tmpdir(), 'gguf-test-'))
afterAll(() => rmSync(folder, { recursive: true }))

function writeCheckpoint(tensors: Record<string, number[]>): void {
  const infos = Object.entries(tensors).map(([name, shape]) => ({ name, shape, dtype: 'BF16' as const }))
  const data = infos.map(({ shape }) => {
    const elements = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => i % 256)
    const halves = new Uint16Array(elements.buffer).filter((_, i) => i % 2 === 1)
    return Buffer.from(halves.buffer)
  })
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([buildSafetensorsHeader(infos), ...data]))
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
}

describe('writeGguf', () => {
  let gguf: Gguf
  beforeAll(async () => {
    writeCheckpoint(shapes)
    await writeGguf(folder, join(folder, 'out.gguf'))
    gguf = readGguf(join(folder, 'out.gguf'))
  })

  const bf16 = (name: string): number[] => {
    const { extents, type, offset } = gguf.tensors[name]!
    expect(type).toBe(30)
    return Array.from({ length: extents.reduce((a, b) => a * b) }, (_, i) => {
      const wide = Buffer.alloc(4)
      gguf.data.copy(wide, 2, offset + 2 * i, offset + 2 * i + 2)
      return wide.readFloatLE()
    })
  }

  test('describes the model', () => {
    expect(gguf.version).toBe(3)
    expect(gguf.metadata).toMatchObject({
      'general.architecture': 'llama',
      'llama.block_count': 1,
      'llama.embedding_length': 8,
      'llama.feed_forward_length': 5,
      'llama.attention.head_count': 2,
      'llama.attention.head_count_kv': 1,
      'llama.context_length': 32,
      'llama.rope.freq_base': 500,
      'llama.rope.dimension_count': 4,
      'llama.attention.layer_norm_rms_epsilon': Math.fround(1e-5),
    })
  })

  test('has one distinct piece, score and kind for each id', () => {
    for (const key of ['tokens', 'scores', 'token_type']) {
      expect(gguf.metadata[`tokenizer.ggml.${key}`]).toHaveLength(260)
    }
    const tokens = gguf.metadata['tokenizer.ggml.tokens'] as string[]
    expect(new Set(tokens).size).toBe(260)
    expect(tokens.slice(0, 4)).toEqual(['<unk>', '<s>', '</s>', '<0x00>'])
    expect(tokens[258]).toBe('<0xFF>')
  })

  test('aligns every tensor, and none overlaps', () => {
    const width = { 0: 4, 30: 2 } as Record<number, number>
    const spans = Object.values(gguf.tensors).map(({ extents, type, offset }) => ({
      offset,
      end: offset + extents.reduce((a, b) => a * b) * width[type]!,
    }))
    spans.sort((a, b) => a.offset - b.offset)
    spans.forEach(({ offset }, i) => {
      expect(offset % 32).toBe(0)
      expect(offset).toBeGreaterThanOrEqual(i === 0 ? 0 : spans[i - 1]!.end)
    })
    expect(gguf.data.length).toBeGreaterThanOrEqual(spans.at(-1)!.end)
  })

  test('names the contiguous extent first and leaves matrices as they are', () => {
    expect(gguf.tensors['blk.0.ffn_down.weight']!.extents).toEqual([5, 8])
    expect(bf16('blk.0.ffn_down.weight')).toEqual(Array.from({ length: 40 }, (_, i) => i))
  })

  test('widens norms to float32', () => {
    const { type, extents, offset } = gguf.tensors['output_norm.weight']!
    expect({ type, extents }).toEqual({ type: 0, extents: [8] })
    expect(Array.from({ length: 8 }, (_, i) => gguf.data.readFloatLE(offset + 4 * i))).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
  })

  test('puts the halves of rotary pairs side by side, head by head', () => {
    const rows = (name: string): number[] => bf16(name).flatMap((value, i) => (i % 8 === 0 ? [value / 8] : []))
    expect(rows('blk.0.attn_q.weight')).toEqual([0, 2, 1, 3, 4, 6, 5, 7])
    expect(rows('blk.0.attn_k.weight')).toEqual([0, 2, 1, 3])
    expect(rows('blk.0.attn_v.weight')).toEqual([0, 1, 2, 3])
  })

  test('refuses a tensor it has no name for', async () => {
    writeCheckpoint({ ...shapes, 'model.routers.0.weight': [1, 8] })
    await expect(writeGguf(folder, join(folder, 'out.gguf'))).rejects.toThrow('model.routers.0.weight')
  })
})

const model = sharedData('checkpoints/stories260K/model.safetensors')
const published = sharedData('checkpoints/stories260K/stories260K.gguf')

test.skipIf(model === null || published === null)(
  'holds the same tensors as the published stories260K.gguf (../shared/data)',
  async () => {
    const path = join(folder, 'stories.gguf')
    await writeGguf(dirname(model!), path)
    const [ours, theirs] = [readGguf(path), readGguf(published!)]
    expect(Object.keys(ours.tensors)).not.toHaveLength(0)
    for (const [name, { extents, type, offset }] of Object.entries(ours.tensors)) {
      const other = theirs.tensors[name]!
      expect({ name, extents, type }).toEqual({ name, extents: other.extents, type: other.type })
      const bytes = extents.reduce((a, b) => a * b) * 4
      const same = ours.data
        .subarray(offset, offset + bytes)
        .equals(theirs.data.subarray(other.offset, other.offset + bytes))
      expect(same, name).toBe(true)
    }
  },
)
