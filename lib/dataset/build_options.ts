// The options of buildDataset: defaults and checks.
import { availableParallelism } from 'node:os'
import { Checker, checkPaths } from '../check.js'
import { readTokenizer } from '../tokenizer/option.js'
import type { Tokenizer } from '../tokenizer.js'
import { STANDARD_INPUT, type TextFormat, textFormats } from './file_kind.js'

export interface BuildDatasetOptions {
  tokenizer: Tokenizer
  /** Share of the tokens held out for validation, 0 (default) to 0.5. */
  validationFraction?: number
  /** T of the rows that will be read. Where text is held out, both splits then have at least one row of T + 1 tokens. */
  length?: number
  /** Key of the text in a JSONL line, and column of a Parquet file; `text` by default. */
  textField?: string
  /** How all files are read, in place of what their names say. */
  format?: TextFormat
  /** Threads that tokenize, by default one for each processor. */
  threads?: number
  /** Largest number of tokens in one shard file, 2^27 by default. */
  shardTokens?: number
  /** Called after each segment of text. */
  onProgress?: (progress: BuildProgress) => void
  signal?: AbortSignal
}

export interface BuildProgress {
  /** UTF-8 bytes of text and tokens so far, of both splits together. */
  bytes: number
  tokens: number
}

export type ResolvedBuildOptions = Required<
  Omit<BuildDatasetOptions, 'format' | 'length' | 'onProgress' | 'signal'>
> & {
  format: TextFormat | null
  length: number | null
  /** Undefined where they are left out. */
  onProgress: BuildDatasetOptions['onProgress']
  signal: AbortSignal | undefined
}

const keys: readonly (keyof BuildDatasetOptions)[] = [
  'tokenizer',
  'validationFraction',
  'length',
  'textField',
  'format',
  'threads',
  'shardTokens',
  'onProgress',
  'signal',
]

/** @throws {MorError} INVALID_ARGUMENT with the value and what is allowed */
export function resolveBuildOptions(options: BuildDatasetOptions): ResolvedBuildOptions {
  const check = Checker.of(options, 'buildDataset')
  check.onlyKeys(keys)
  const tokenizer = readTokenizer(check) ?? check.fail('tokenizer is missing')
  if (tokenizer.eosTokenId === null) {
    check.fail(
      `tokenizer ${tokenizer.name} has no end token to put between documents: name one as eos_token in its tokenizer_config.json`,
    )
  }
  const max = Number.MAX_SAFE_INTEGER
  return {
    tokenizer,
    validationFraction: check.number('validationFraction', { min: 0, max: 0.5, fallback: 0 }),
    length: check.has('length') ? check.integer('length', { min: 1, max }) : null,
    textField: check.text('textField', 'text'),
    format: check.has('format') ? check.choice('format', textFormats) : null,
    threads: check.integer('threads', { min: 1, fallback: availableParallelism() }),
    shardTokens: check.integer('shardTokens', { min: 1, max, fallback: 2 ** 27 }),
    onProgress: check.callback('onProgress'),
    signal: check.signal(),
  }
}

/** A copy of the list of files, which the caller may change while they are read. @throws {MorError} INVALID_ARGUMENT */
export function resolveFiles(files: readonly string[], where: string): readonly string[] {
  const list = checkPaths(files, where)
  if (list.indexOf(STANDARD_INPUT) === list.lastIndexOf(STANDARD_INPUT)) return list
  return new Checker({}, where).fail('standard input (-) is given more than once: it can be read only once')
}
