// bench_ops as a program of cases: its options and its lines.
import type { ModelConfig } from '../../lib/config.js'
import { type CaseProgram, jsonLines } from '../lib/cases.js'
import type { Line } from './figures.js'

/** How many rows the cases have. */
export interface OpShapes {
  /** Of matrix products, one case for each. */
  rows: readonly number[]
  /** Of ops that memory bounds. */
  batchRows: number
  /** Of attention, one case for each: so many sequences of so many rows. */
  attention: readonly `${number}x${number}`[]
}

/** On a GPU: tokens of a step, and what its targets are stated for. On the CPU so few that the bench takes minutes. */
export function shapesOf(device: string): OpShapes {
  return device === 'cpu'
    ? { rows: [256], batchRows: 256, attention: ['1x256'] }
    : { rows: [2048, 8192, 16384], batchRows: 32768, attention: ['8x2048', '1x16384'] }
}

/** ops: every op; products: the matrix products of a model; copy: a copy of memory alone; cubes: the products of square matrices with `rows` rows. */
export type OpCases = 'ops' | 'products' | 'copy' | 'cubes'

/** The options of bench_ops. @param first how many of the cases are left out at the beginning */
export function opWords(
  cases: OpCases,
  config: ModelConfig,
  { rows, batchRows, attention }: OpShapes,
  { device, dtype, samples, first }: { device: string; dtype: string; samples: number; first: number },
): string[] {
  const options = {
    cases,
    first,
    device,
    dtype,
    samples,
    rows: rows.join(','),
    'batch-rows': batchRows,
    attention: attention.join(','),
    hidden: config.hidden_size,
    intermediate: config.intermediate_size,
    heads: config.num_attention_heads,
    'key-value-heads': config.num_key_value_heads,
    'head-dim': config.head_dim,
    vocabulary: config.vocab_size,
  }
  return Object.entries(options).flatMap(([key, value]) => [`--${key}`, `${value}`])
}

/** Seconds that a case may take: upload of operands, warm-up, samples, and those of eight algorithms of the rival. */
const caseSeconds = 60

/** @param take is called with each line that says something of the device or a case. */
export function opCases(
  program: string,
  cases: OpCases,
  config: ModelConfig,
  shapes: OpShapes,
  { device, samples }: { device: string; samples: number },
  take: (line: Line) => void,
): CaseProgram {
  const options = { device, samples, dtype: 'bfloat16' }
  return {
    name: 'bench_ops',
    seconds: caseSeconds,
    words: (done) => [program, ...opWords(cases, config, shapes, { ...options, first: done.length })],
    read: jsonLines(take),
  }
}
