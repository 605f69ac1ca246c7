// Rows of several token datasets, mixed by weight, in an order that can be resumed.
import { basename, resolve } from 'node:path'
import { Checker, checkPath, show } from '../check.js'
import { MorError } from '../errors.js'
import { checkRows, Dataset, type DatasetOptions, resolveDatasetOptions } from './dataset.js'
import { checkSameMix, type DatasetMixState } from './mix_state.js'
import { hash } from './order.js'

export interface WeightedDataset {
  /** That of a dataset of `buildDataset` or `mor prepare`. */
  folder: string
  /** Above 0. The share of the rows that come from this dataset is its weight divided by the sum of all weights. */
  weight: number
}

/** One of the datasets of a mix. */
export interface MixPart extends WeightedDataset {
  /** The last part of the path of its folder. */
  name: string
  /** Its share of the rows; the sum of all shares is 1. */
  share: number
  dataset: Dataset
}

/** How much of a dataset was taken. */
export interface SeenTokens {
  /** The name of its folder. */
  dataset: string
  /** Targets: rows times T. */
  tokens: number
  /** How many times all of it was taken. */
  epoch: number
}

/**
 * Takes each row from the dataset that is furthest behind its share, so that every stretch of rows has the shares as closely as
 * whole rows allow. Each dataset has a shuffled order of its own, and starts again with another one when all of it was taken.
 */
export class DatasetMix {
  readonly parts: readonly MixPart[]
  readonly length: number
  readonly seed: number
  /** Rows taken so far, of each part. */
  #rows: number[]

  private constructor(parts: readonly MixPart[], length: number, seed: number) {
    this.parts = parts
    this.length = length
    this.seed = seed
    this.#rows = parts.map(() => 0)
  }

  /**
   * Throws `INVALID_ARGUMENT` for no datasets, for a weight that is not above 0, and for datasets of different tokenizers; what
   * `Dataset.open` throws.
   */
  static async open(datasets: readonly WeightedDataset[], options: DatasetOptions): Promise<DatasetMix> {
    const given = checkDatasets(datasets)
    const resolved = resolveDatasetOptions(options, 'DatasetMix.open')
    const { length, seed } = resolved
    // Weights of any size have a sum that is finite.
    const heaviest = Math.max(...given.map(({ weight }) => weight))
    const sum = given.reduce((total, { weight }) => total + weight / heaviest, 0)
    const parts: MixPart[] = []
    try {
      for (const [i, { folder, weight }] of given.entries()) {
        const dataset = await Dataset.open(folder, { ...resolved, seed: hash(seed, i) })
        parts.push({ folder, weight, name: basename(resolve(folder)), share: weight / heaviest / sum, dataset })
        checkSameTokenizer(parts[0]!, parts[i]!)
      }
      return new DatasetMix(parts, length, seed)
    } catch (error) {
      await Promise.all(parts.map(({ dataset }) => dataset.close()))
      throw error
    }
  }

  /** The next `rows` rows of T + 1 ids. Calls may overlap; each takes its rows when called. */
  async next(rows: number): Promise<Int32Array[]> {
    checkRows(rows, 'next')
    const taken = Array.from({ length: rows }, () => this.#takePart().next(1))
    return (await Promise.all(taken)).flat()
  }

  /** Goes on as after `next(rows)`, and reads nothing. */
  skip(rows: number): void {
    checkRows(rows, 'skip')
    for (let row = 0; row < rows; row++) this.#takePart().skip(1)
  }

  /** How much of each dataset was taken, in the order of `parts`. */
  seen(): SeenTokens[] {
    return this.parts.map(({ name, dataset }, i) => ({
      dataset: name,
      tokens: this.#rows[i]! * this.length,
      epoch: dataset.state().epoch,
    }))
  }

  state(): DatasetMixState {
    const datasets = this.parts.map(({ folder, weight, dataset }, i) => {
      const { checksum, epoch, index } = dataset.state()
      return { folder, weight, checksum, rows: this.#rows[i]!, epoch, index }
    })
    return { length: this.length, seed: this.seed, datasets }
  }

  /**
   * Makes `next` continue from where `state` was taken; the datasets may have been moved to other folders. Throws
   * `INVALID_ARGUMENT`, and changes nothing, if it belongs to other datasets, weights, length or seed.
   */
  restore(state: DatasetMixState): void {
    const own = this.state()
    checkSameMix(own, state)
    try {
      this.#setPositions(state)
    } catch (error) {
      this.#setPositions(own)
      throw error
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.parts.map(({ dataset }) => dataset.close()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #takePart(): Dataset {
    const rows = this.#rows.reduce((sum, taken) => sum + taken, 1)
    const behind = this.parts.map(({ share }, i) => share * rows - this.#rows[i]!)
    const next = behind.indexOf(Math.max(...behind))
    this.#rows[next]!++
    return this.parts[next]!.dataset
  }

  #setPositions({ datasets }: DatasetMixState): void {
    for (const [i, { epoch, index }] of datasets.entries()) {
      const { dataset } = this.parts[i]!
      dataset.restore({ ...dataset.state(), epoch, index })
    }
    this.#rows = datasets.map(({ rows }) => rows)
  }
}

/** A copy of the list, which the caller may change while the datasets are opened. */
function checkDatasets(datasets: readonly WeightedDataset[]): WeightedDataset[] {
  if (!Array.isArray(datasets) || datasets.length === 0) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `DatasetMix.open: datasets is ${show(datasets)}; it must be an array of at least one { folder, weight }`,
    )
  }
  return datasets.map((dataset, i) => {
    const where = `DatasetMix.open: datasets[${i}]`
    const check = Checker.of(dataset, where)
    check.onlyKeys(['folder', 'weight'])
    checkPath(dataset.folder, `${where}.folder`)
    new Checker(check.object, `${where} (${dataset.folder})`).number('weight', { above: 0 })
    return { ...dataset }
  })
}

/** Equal fingerprints mean equal ids, and so one vocabulary. */
function checkSameTokenizer(first: MixPart, other: MixPart): void {
  const [a, b] = [first.dataset.info.tokenizer, other.dataset.info.tokenizer]
  if (a.fingerprint === b.fingerprint) return
  throw new MorError(
    'INVALID_ARGUMENT',
    `${first.folder} was made with the tokenizer ${a.name} (vocabulary ${a.vocab_size}), and ${other.folder} with ${b.name} ` +
      `(vocabulary ${b.vocab_size}): datasets that are mixed need one tokenizer, so build one of them again`,
  )
}
