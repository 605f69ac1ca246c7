// Checks rows for training and packs those of one length together.
import { Checker, show } from './check.js'
import type { ResolvedConfig } from './config.js'
import { MorError } from './errors.js'
import { copyTokens, lengthOf } from './tokens.js'

/** A row of T + 1 token ids: each predicts the next. */
export type TrainingRow = ArrayLike<number> | MaskedRow

export interface MaskedRow {
  tokens: ArrayLike<number>
  /**
   * For each token, whether it counts in the loss as one to be predicted (true or 1) or not (false or 0). The first token is
   * never predicted.
   */
  lossMask: ArrayLike<boolean | number>
}

export interface PackedTrainingRows {
  tokens: Int32Array
  /** For each token, whether it counts; null: all do. */
  counts: Uint8Array | null
  /** The number of rows and their length T, for each micro-batch. */
  shapes: Int32Array
}

/**
 * Packs rows into micro-batches of rows of one length: every one of the `parts` equal parts of the batch becomes as many of
 * them as it has lengths.
 * @throws {MorError} INVALID_ARGUMENT for no rows, short rows, masks that do not fit, and rows that
 * the parts do not divide; CONTEXT_OVERFLOW; TOKEN_OUT_OF_RANGE.
 */
export function packTrainingRows(
  batch: readonly TrainingRow[],
  config: ResolvedConfig,
  parts: number,
): PackedTrainingRows {
  if (!Array.isArray(batch) || batch.length === 0) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `the batch is ${show(batch)}; it must be an array of at least one row of token ids`,
    )
  }
  const rows = batch.map((row, index) => checkRow(row, index, config))
  if (rows.length % parts !== 0) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `the batch has ${rows.length} rows, which gradientAccumulation ${parts} does not divide`,
    )
  }
  const order = microBatches(rows, parts)
  const tokens = new Int32Array(rows.reduce((sum, row) => sum + row.tokens.length, 0))
  const counts = rows.some(({ lossMask }) => lossMask !== null) ? new Uint8Array(tokens.length).fill(1) : null
  let offset = 0
  for (const { index, tokens: ids, lossMask } of order.flat()) {
    copyTokens(ids, tokens, offset, config.vocab_size, `row ${index}`)
    if (lossMask !== null) copyMask(lossMask, counts!, offset, index)
    offset += ids.length
  }
  return { tokens, counts, shapes: Int32Array.from(order.flatMap((m) => [m.length, m[0]!.tokens.length - 1])) }
}

interface CheckedRow {
  index: number
  tokens: ArrayLike<number>
  lossMask: ArrayLike<boolean | number> | null
}

function checkRow(row: unknown, index: number, config: ResolvedConfig): CheckedRow {
  const isMasked = typeof row === 'object' && row !== null && 'tokens' in row
  const tokens = (isMasked ? row.tokens : row) as ArrayLike<number>
  const length = lengthOf(tokens, index)
  if (length < 2) throw new MorError('INVALID_ARGUMENT', `rows have ${length} tokens; they need at least 2`)
  const context = config.max_position_embeddings
  if (length > context + 1) {
    throw new MorError('CONTEXT_OVERFLOW', `rows have ${length} tokens; the context holds ${context} and one label`)
  }
  if (!isMasked) return { index, tokens, lossMask: null }
  const check = Checker.of(row, `row ${index}`)
  check.onlyKeys(['tokens', 'lossMask'])
  if (!check.has('lossMask')) return { index, tokens, lossMask: null }
  const lossMask = check.object.lossMask as ArrayLike<boolean | number>
  const found = Array.isArray(lossMask) || ArrayBuffer.isView(lossMask) ? lossMask.length : show(lossMask)
  if (found !== length) {
    check.fail(`lossMask has ${found} entries and tokens ${length}; each token needs one`)
  }
  return { index, tokens, lossMask }
}

/** The rows of each micro-batch. */
function microBatches(rows: readonly CheckedRow[], parts: number): CheckedRow[][] {
  const perPart = rows.length / parts
  return Array.from({ length: parts }, (_, part) => {
    const byLength = new Map<number, CheckedRow[]>()
    for (const row of rows.slice(part * perPart, (part + 1) * perPart)) {
      const same = byLength.get(row.tokens.length) ?? []
      same.push(row)
      byLength.set(row.tokens.length, same)
    }
    return [...byLength.values()]
  }).flat()
}

function copyMask(mask: ArrayLike<boolean | number>, counts: Uint8Array, offset: number, index: number): void {
  for (let i = 0; i < mask.length; i++) {
    const value = mask[i]!
    if (value !== true && value !== false && value !== 0 && value !== 1) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `row ${index}: lossMask has ${show(value)} at index ${i}; it must be true, false, 1 or 0`,
      )
    }
    counts[offset + i] = Number(value)
  }
}
