// What the parts measure: on a GPU the presets at the sizes for which targets are stated, in a dry run the same cases so
// small that they take seconds on a CPU.
import { type ModelConfig, presets } from '../../lib/index.js'
import { type OpShapes, shapesOf } from '../ops/program.js'

export interface Shapes {
  /** Of every op, by the name of the sizes. */
  ops: Record<string, ModelConfig>
  opRows: OpShapes
  /** Rows, columns and depth of square products. */
  cube: number
  /** A vanilla model and others that are compared with it, each with its name in figures. */
  train: { vanilla: ModelConfig; mor_2: ModelConfig; mor_3: ModelConfig }
  /** Sequences and tokens of a step. */
  batches: readonly { rows: number; length: number }[]
  decode: Record<string, ModelConfig>
  /** Of sequences that are decoded together. */
  decodedSequences: readonly number[]
  /** A shorter and a longer generation, whose difference is decoding alone. */
  decodedTokens: readonly [shorter: number, longer: number]
  serve: { vanilla: ModelConfig; mor_4: ModelConfig }
  requests: { count: number; shortest: number; longest: number }
  /** Vanilla sequences of mean length that the cache of equal memory holds. */
  cachedSequences: number
}

const onGpu: Shapes = {
  ops: { '135M': presets['135M'], '360M': presets['360M'], '730M': presets['730M'], '1_7B': presets['1.7B'] },
  opRows: shapesOf('cuda:0'),
  cube: 8192,
  train: { vanilla: presets['360M'], mor_2: presets['360M-mor-2'], mor_3: presets['360M-mor-3'] },
  batches: [
    { rows: 8, length: 2048 },
    { rows: 1, length: 2048 },
  ],
  decode: { '1_7B': presets['1.7B'], '360M': presets['360M'], '360M_mor_3': presets['360M-mor-3'] },
  decodedSequences: [1, 64],
  decodedTokens: [32, 160],
  serve: { vanilla: presets['360M'], mor_4: presets['360M-mor-4'] },
  requests: { count: 256, shortest: 100, longest: 1024 },
  cachedSequences: 32,
}

const tiny: ModelConfig = {
  vocab_size: 512,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 8,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  max_position_embeddings: 128,
}

function tinyMor(recursions: number): ModelConfig {
  return { ...tiny, num_recursions: recursions, sharing: 'middle_cycle', router: { type: 'expert_choice' } }
}

const dry: Shapes = {
  ops: { tiny },
  opRows: { rows: [32, 64], batchRows: 64, attention: ['2x32', '1x64'] },
  cube: 64,
  train: { vanilla: tiny, mor_2: tinyMor(2), mor_3: tinyMor(3) },
  batches: [
    { rows: 2, length: 32 },
    { rows: 1, length: 32 },
  ],
  decode: { tiny, tiny_mor_3: tinyMor(3) },
  decodedSequences: [1, 4],
  decodedTokens: [4, 16],
  serve: { vanilla: tiny, mor_4: { ...tinyMor(4), num_hidden_layers: 10 } },
  requests: { count: 16, shortest: 4, longest: 24 },
  cachedSequences: 4,
}

/** @param device `cpu` means a dry run. */
export function shapesFor(device: string): Shapes {
  return device === 'cpu' ? dry : onGpu
}
