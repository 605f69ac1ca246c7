// One split of a token dataset as rows for training or evaluation, in an order that can be resumed.
import { Checker, checkPath, show } from '../check.js'
import { MorError } from '../errors.js'
import { readTokenizer } from '../tokenizer/option.js'
import type { Tokenizer } from '../tokenizer.js'
import { type DatasetInfo, type DatasetSplit, readDatasetInfo, type SplitName } from './format.js'
import { checksumOf } from './mix_state.js'
import { hash, shuffledIndex } from './order.js'
import { TokenReader } from './reader.js'

export interface DatasetOptions {
  split?: SplitName
  /** T: tokens of a sequence. Rows have T + 1 ids, of which the last T are targets. */
  length: number
  /** Seed of the shuffled order. Default 0. */
  seed?: number
  /** The tokenizer in use; the dataset must have been built with the same one. */
  tokenizer?: Tokenizer
}

/** The position from which `next` continues, as plain JSON. */
export interface DatasetState {
  tokens: number
  /** Of the content of the split; states that were saved before it was have none. */
  checksum?: string
  length: number
  seed: number
  epoch: number
  index: number
}

/**
 * The split's tokens cut into windows of T + 1 ids that overlap by one, so that every token but the first is a target
 * once. `next` visits the windows shuffled, all of them in every epoch; each epoch cuts at another offset below T.
 */
export class Dataset {
  readonly info: DatasetInfo
  readonly split: DatasetSplit
  readonly length: number
  readonly seed: number
  readonly #reader: TokenReader
  /** Of the content of the split: it is long to compute, and every step of a training run asks for the state. */
  readonly #checksum: string
  #epoch = 0
  #index = 0

  private constructor(info: DatasetInfo, split: SplitName, length: number, seed: number, reader: TokenReader) {
    this.info = info
    this.split = info.splits[split]
    this.#checksum = checksumOf(this.split)
    this.length = length
    this.seed = seed
    this.#reader = reader
  }

  /**
   * Opens the dataset that `buildDataset` wrote. Throws `IO_ERROR` if it is missing or damaged, `INVALID_ARGUMENT` if the
   * split has fewer tokens than one row or was built with another tokenizer.
   */
  static async open(folder: string, options: DatasetOptions): Promise<Dataset> {
    const { split, length, seed, tokenizer } = resolveDatasetOptions(options, 'Dataset.open')
    checkPath(folder, 'Dataset.open: the folder')
    const info = await readDatasetInfo(folder)
    if (tokenizer !== undefined && tokenizer.fingerprint !== info.tokenizer.fingerprint) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `${folder} was made with the tokenizer ${info.tokenizer.name} (vocabulary ${info.tokenizer.vocab_size}), not with ${tokenizer.name} (vocabulary ${tokenizer.vocabSize}): build it again with this one`,
      )
    }
    const { tokens } = info.splits[split]
    if (tokens < length + 1) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `the ${split} split of ${folder} has ${tokens} tokens, fewer than one row of length + 1 = ${length + 1}: use more text or a shorter length`,
      )
    }
    return new Dataset(info, split, length, seed, await TokenReader.open(folder, info, split))
  }

  /** The next `rows` windows of the shuffled order, each T + 1 ids. Calls may overlap; each takes its windows when called. */
  async next(rows: number): Promise<Int32Array[]> {
    checkRows(rows, 'next')
    const starts = Array.from({ length: rows }, () => this.#takeStart())
    return Promise.all(starts.map((start) => this.#reader.read(start, this.length + 1)))
  }

  /** Goes on as after `next(rows)`, and reads nothing. */
  skip(rows: number): void {
    checkRows(rows, 'skip')
    for (let row = 0; row < rows; row++) this.#takeStart()
  }

  /** All windows in file order, `rows` at a time (the last batch may have fewer). Tokens after the last full window are left out. */
  async *sequential(rows: number): AsyncGenerator<Int32Array[]> {
    checkRows(rows, 'sequential', 1)
    const windows = this.#windows(0)
    for (let first = 0; first < windows; first += rows) {
      const count = Math.min(rows, windows - first)
      yield await Promise.all(
        Array.from({ length: count }, (_, row) => this.#reader.read((first + row) * this.length, this.length + 1)),
      )
    }
  }

  state(): DatasetState & { checksum: string } {
    const { split, length, seed } = this
    return { tokens: split.tokens, checksum: this.#checksum, length, seed, epoch: this.#epoch, index: this.#index }
  }

  /** Makes `next` continue from where `state` was taken. Throws `INVALID_ARGUMENT` if it belongs to other data, length or seed. */
  restore(state: DatasetState): void {
    if (typeof state !== 'object' || state === null) {
      const text = `cannot go on in this dataset: the saved state is ${show(state)}; give what state() returned`
      throw new MorError('INVALID_ARGUMENT', text)
    }
    const own = this.state()
    for (const key of ['tokens', 'checksum', 'length', 'seed'] as const) {
      if (state[key] !== own[key] && !(key === 'checksum' && state[key] === undefined)) {
        throw new MorError(
          'INVALID_ARGUMENT',
          `cannot go on in this dataset: its ${key} is ${own[key]}, that of the saved state ${state[key]}`,
        )
      }
    }
    const inRange = (value: number, end: number) => Number.isSafeInteger(value) && value >= 0 && value < end
    if (
      !inRange(state.epoch, Number.MAX_SAFE_INTEGER) ||
      !inRange(state.index, this.#windows(this.#offset(state.epoch)))
    ) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `cannot go on at epoch ${state.epoch}, window ${state.index}: there is no such window`,
      )
    }
    this.#epoch = state.epoch
    this.#index = state.index
  }

  close(): Promise<void> {
    return this.#reader.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #takeStart(): number {
    const offset = this.#offset(this.#epoch)
    const windows = this.#windows(offset)
    const start = offset + shuffledIndex(this.#index, windows, this.seed, this.#epoch) * this.length
    if (++this.#index === windows) {
      this.#index = 0
      this.#epoch++
    }
    return start
  }

  /** Where the first window of an epoch begins: below T, and early enough for one window. */
  #offset(epoch: number): number {
    return hash(epoch, this.seed) % Math.min(this.length, this.split.tokens - this.length)
  }

  #windows(offset: number): number {
    return Math.floor((this.split.tokens - 1 - offset) / this.length)
  }
}

/** @throws {MorError} INVALID_ARGUMENT with the value and what is allowed */
export function resolveDatasetOptions(options: DatasetOptions, where: string) {
  const check = Checker.of(options, where)
  check.onlyKeys(['split', 'length', 'seed', 'tokenizer'])
  const max = Number.MAX_SAFE_INTEGER
  return {
    split: check.choice('split', ['train', 'validation'], 'train'),
    length: check.integer('length', { min: 1, max }),
    seed: check.integer('seed', { min: -max, max, fallback: 0 }),
    tokenizer: readTokenizer(check) ?? undefined,
  }
}

/** @throws {MorError} INVALID_ARGUMENT */
export function checkRows(rows: number, call: string, min = 0): void {
  new Checker({ rows }, call).integer('rows', { min })
}
