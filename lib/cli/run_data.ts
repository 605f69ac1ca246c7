// The token datasets of a run: one, or several that are mixed by weight.
import { join } from 'node:path'
import { show } from '../check.js'
import { INFO_FILE } from '../dataset/format.js'
import {
  Dataset,
  DatasetMix,
  type DatasetMixState,
  type DatasetOptions,
  type DatasetState,
  readDatasetInfo,
  type WeightedDataset,
} from '../dataset.js'
import { MorError } from '../errors.js'
import { exists } from '../exists.js'
import { mapInOrder } from '../map_in_order.js'

/** The folder of a dataset, or datasets that are mixed. */
export type DataFolders = string | WeightedDataset[]
/** The position in either. */
export type DataState = DatasetState | DatasetMixState

export interface RunData extends AsyncDisposable {
  train: Dataset | DatasetMix
  /** Of the datasets that hold out some text; null: none does. */
  validation: Dataset | DatasetMix | null
}

/**
 * The datasets that --data names with their weights, each `<folder>=<weight>`; null where it gives no weights.
 * @throws {MorError} INVALID_ARGUMENT for a value without a weight beside others that have one, for a weight that is none, and
 * for what is no dataset
 */
export async function weightedDatasets(data: readonly string[]): Promise<WeightedDataset[] | null> {
  const parts = await mapInOrder(data, splitWeight)
  if (parts.every(({ weight }) => weight === null)) return null
  return mapInOrder(parts, checkWeighted)
}

/** The same datasets with each folder as `map` gives it. */
export function mapFolders(data: DataFolders, map: (folder: string) => string): DataFolders {
  return typeof data === 'string' ? map(data) : data.map(({ folder, weight }) => ({ folder: map(folder), weight }))
}

export function foldersOf(data: DataFolders): string[] {
  return typeof data === 'string' ? [data] : data.map(({ folder }) => folder)
}

/** As --data names them. */
export function showWeighted(datasets: readonly WeightedDataset[]): string {
  return datasets.map(({ folder, weight }) => `${folder}=${weight}`).join(' ')
}

/**
 * Opens both splits.
 * @param position where to go on in the training split; null: at its start. It must be of one dataset where `data` is, and of a mix
 * where that is
 * @throws {MorError} what `Dataset.open`, `DatasetMix.open` and their `restore` throw
 */
export async function openRunData(
  data: DataFolders,
  options: Omit<DatasetOptions, 'split'>,
  position: DataState | null,
): Promise<RunData> {
  const held = await heldOut(data)
  const open = (folders: DataFolders, split: DatasetOptions['split']) =>
    typeof folders === 'string'
      ? Dataset.open(folders, { ...options, split })
      : DatasetMix.open(folders, { ...options, split })
  const opened: (Dataset | DatasetMix)[] = []
  const close = async () => {
    for (const each of opened) await each.close()
  }
  try {
    const train = await open(data, 'train')
    opened.push(train)
    if (position !== null) restoreData(train, position)
    const validation = held === null ? null : await open(held, 'validation')
    if (validation !== null) opened.push(validation)
    return { train, validation, [Symbol.asyncDispose]: close }
  } catch (error) {
    await close()
    throw error
  }
}

/** @param position of one dataset where `data` is, and of a mix where that is */
export function restoreData(data: Dataset | DatasetMix, position: DataState): void {
  if (data instanceof Dataset) data.restore(position as DatasetState)
  else data.restore(position as DatasetMixState)
}

async function heldOut(data: DataFolders): Promise<DataFolders | null> {
  const holdsOut = async (folder: string) => (await readDatasetInfo(folder)).splits.validation.tokens > 0
  if (typeof data === 'string') return (await holdsOut(data)) ? data : null
  const holding = await mapInOrder(data, ({ folder }) => holdsOut(folder))
  const kept = data.filter((_, i) => holding[i])
  return kept.length === 0 ? null : kept
}

interface Value {
  /** As it was given. */
  text: string
  folder: string
  /** As it was given; null: there is none. */
  weight: string | null
}

/** A path may have the sign in it. */
async function splitWeight(text: string): Promise<Value> {
  const [, folder, weight] = /^(.+)=([^=]*)$/.exec(text) ?? []
  if (folder === undefined || weight === undefined || (await exists(text))) return { text, folder: text, weight: null }
  return { text, folder, weight }
}

async function checkWeighted({ text, folder, weight }: Value): Promise<WeightedDataset> {
  if (weight === null) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `--data: ${text} has no weight, but others have: give one to each, as in ${text}=1`,
    )
  }
  const value = Number(weight)
  if (weight.trim() === '' || !Number.isFinite(value) || value <= 0)
    throw new MorError(
      'INVALID_ARGUMENT',
      `--data: the weight of ${folder} is ${show(weight)}; it must be a number above 0`,
    )
  if (!(await exists(join(folder, INFO_FILE)))) {
    const found = (await exists(folder))
      ? `${folder} is none: make one of its text with mor prepare`
      : `${folder} is not there`
    throw new MorError('INVALID_ARGUMENT', `--data: only datasets are mixed by weight, and ${found}`)
  }
  return { folder, weight: value }
}
