// Checks token ids and packs rows of them into one array for the addon.
import { show } from './check.js'
import type { ResolvedConfig } from './config.js'
import { MorError } from './errors.js'

export interface PackedRows {
  /** [batch * columns], row by row. A copy: the caller may reuse the rows at once. */
  tokens: Int32Array
  batch: number
  columns: number
}

/**
 * Packs rows of one length.
 * @param extra columns beyond the context that a row may have: 1 where the last token is only a label.
 * @throws {MorError} INVALID_ARGUMENT for no rows, short rows or rows of different length; CONTEXT_OVERFLOW;
 * TOKEN_OUT_OF_RANGE.
 */
export function packRows(rows: readonly ArrayLike<number>[], config: ResolvedConfig, extra: 0 | 1): PackedRows {
  if (!Array.isArray(rows) || rows.length === 0) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `the batch is ${show(rows)}; it must be an array of at least one row of token ids`,
    )
  }
  const columns = lengthOf(rows[0], 0)
  if (columns < 1 + extra) {
    throw new MorError('INVALID_ARGUMENT', `rows have ${columns} tokens; they need at least ${1 + extra}`)
  }
  const context = config.max_position_embeddings
  if (columns > context + extra) {
    const label = extra === 0 ? '' : ' and one label'
    throw new MorError('CONTEXT_OVERFLOW', `rows have ${columns} tokens; the context holds ${context}${label}`)
  }
  const tokens = new Int32Array(rows.length * columns)
  for (let row = 0; row < rows.length; row++) {
    const found = lengthOf(rows[row], row)
    if (found !== columns) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `row ${row} has ${found} tokens, row 0 has ${columns}; rows must be of one length`,
      )
    }
    copyTokens(rows[row]!, tokens, row * columns, config.vocab_size, `row ${row}`)
  }
  return { tokens, batch: rows.length, columns }
}

/**
 * Packs the targets of `batch` rows of `length` tokens, -1 where there is none.
 * @throws {MorError} INVALID_ARGUMENT for rows that are not like those of the tokens, TOKEN_OUT_OF_RANGE.
 */
export function packTargets(
  rows: readonly ArrayLike<number>[],
  config: ResolvedConfig,
  batch: number,
  length: number,
): Int32Array {
  if (!Array.isArray(rows) || rows.length !== batch) {
    const found = Array.isArray(rows) ? `${rows.length} rows` : show(rows)
    throw new MorError(
      'INVALID_ARGUMENT',
      `targets are ${found}; there are ${batch} rows of tokens, each needs one of targets`,
    )
  }
  const targets = new Int32Array(batch * length)
  for (let row = 0; row < batch; row++) {
    const where = `targets, row ${row}`
    const found = lengthOf(rows[row], where)
    if (found !== length) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `${where} has ${found} ids, its tokens are ${length}; use -1 where none is wanted`,
      )
    }
    copyTokens(rows[row]!, targets, row * length, config.vocab_size, where, -1)
  }
  return targets
}

/**
 * Checks and copies a prompt.
 * @throws {MorError} INVALID_ARGUMENT for an empty one, CONTEXT_OVERFLOW if no token fits after it, TOKEN_OUT_OF_RANGE.
 */
export function packPrompt(prompt: ArrayLike<number>, config: ResolvedConfig): Int32Array {
  const length = lengthOf(prompt, 'prompt')
  if (length === 0) throw new MorError('INVALID_ARGUMENT', 'the prompt is empty; it must hold at least one token')
  const context = config.max_position_embeddings
  if (length >= context) {
    throw new MorError(
      'CONTEXT_OVERFLOW',
      `the prompt has ${length} tokens and the context holds ${context}, which leaves no room to generate`,
    )
  }
  return copyTokens(prompt, new Int32Array(length), 0, config.vocab_size, 'prompt')
}

/** Checks ids and copies them to `target` from `offset` on. least: -1 where that stands for no token. */
export function copyTokens(
  source: ArrayLike<number>,
  target: Int32Array,
  offset: number,
  vocabSize: number,
  where: string,
  least: 0 | -1 = 0,
): Int32Array {
  for (let i = 0; i < source.length; i++) {
    const token = source[i]!
    if (!(token >= least && token < vocabSize && Number.isInteger(token))) {
      throw new MorError(
        'TOKEN_OUT_OF_RANGE',
        `${where}: the token at index ${i} is ${show(token)}; the vocabulary has ids 0 to ${vocabSize - 1}` +
          (least < 0 ? ', and -1 stands for none' : ''),
      )
    }
    target[offset + i] = token
  }
  return target
}

/** @throws {MorError} INVALID_ARGUMENT for what is no array of numbers. */
export function lengthOf(tokens: unknown, row: number | string): number {
  if (Array.isArray(tokens) || (ArrayBuffer.isView(tokens) && !(tokens instanceof DataView))) {
    return (tokens as ArrayLike<number>).length
  }
  const [where, or] =
    row === 'prompt' ? ['the prompt', 'a text or '] : [typeof row === 'number' ? `row ${row}` : row, '']
  throw new MorError('INVALID_ARGUMENT', `${where} is ${show(tokens)}; it must be ${or}an array of token ids`)
}
