// Provides a training run's token dataset: an existing one, or one built from text.
import { join, relative } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { describeSource, partialFolder } from '../dataset/build.js'
import { STANDARD_INPUT } from '../dataset/file_kind.js'
import { INFO_FILE } from '../dataset/format.js'
import { isUnfinished } from '../dataset/unfinished.js'
import { type BuildDatasetOptions, buildDataset, type DatasetInfo, readDatasetInfo } from '../dataset.js'
import { toMorError } from '../errors.js'
import { exists } from '../exists.js'
import { mapInOrder } from '../map_in_order.js'
import { formatBytes, formatCount } from './format.js'
import type { Output } from './output.js'

export interface DataOptions extends Pick<BuildDatasetOptions, 'tokenizer' | 'length' | 'format' | 'threads'> {
  /** One dataset folder, or files with text. */
  data: readonly string[]
  textField: string
  validationFraction: number
}

/** Milliseconds between two reports of progress: on a terminal and elsewhere. */
const REPORT_MS = { terminal: 100, json: 1000, text: 1000 }

/**
 * The dataset folder of `data`: `data` itself if it is one; else `folder`, in which a dataset is built unless it already
 * holds the same files, tokenized by the same tokenizer. Throws what `buildDataset` throws.
 */
export async function prepareData(
  options: DataOptions,
  folder: string,
  output: Output,
  signal: AbortSignal,
): Promise<string> {
  const { data } = options
  if (data.length === 1 && (await exists(join(data[0]!, INFO_FILE)))) return data[0]!
  if (!(await isUpToDate(options, folder))) await buildData(options, folder, output, signal)
  return folder
}

/** Builds the dataset in `folder`, or goes on with it, and shows the progress. Throws what `buildDataset` throws. */
export async function buildData(
  { data, ...options }: DataOptions,
  folder: string,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const started = performance.now()
  let first: number | null = null
  const report = reporter(output)
  const onProgress = ({ bytes, tokens }: { bytes: number; tokens: number }) => {
    first ??= bytes
    const done = bytes - first
    report(() => {
      const bytesPerSecond = Math.round((done * 1000) / (performance.now() - started))
      return [
        { type: 'tokenize', bytes, tokens, bytesPerSecond },
        `tokenizing: ${formatBytes(bytes)}, ${formatCount(tokens)} tokens, ${formatBytes(bytesPerSecond)}/s`,
      ]
    })
  }
  let info: DatasetInfo
  try {
    info = await buildDataset(data, folder, { ...options, signal, onProgress })
  } catch (error) {
    output.end()
    const aside = partialFolder(folder)
    if (await isUnfinished(aside)) tellKept(aside, output)
    throw error
  }
  output.end()
  tellDataset(folder, info, output)
}

/** Of a command that ends too early: what it has done up to now is not lost. */
export function tellKept(folder: string, output: Output): void {
  const kept = relative('', folder)
  output.event({ type: 'unfinished', folder: kept }, `${kept} keeps what was done: the same command goes on from there`)
}

/** Shows progress, but not more often than somebody can read it. */
export function reporter(output: Output): (progress: () => [record: object, status: string]) => void {
  let reported = Number.NEGATIVE_INFINITY
  return (progress) => {
    const now = performance.now()
    if (now - reported < REPORT_MS[output.mode]) return
    reported = now
    output.progress(...progress())
  }
}

export function tellDataset(folder: string, { splits }: DatasetInfo, output: Output): void {
  const tokens = { train: splits.train.tokens, validation: splits.validation.tokens }
  output.event(
    { type: 'dataset', folder, ...tokens },
    `dataset: ${formatCount(tokens.train)} tokens to train on, ${formatCount(tokens.validation)} held out, in ${folder}`,
  )
}

/** Whether `folder` holds the dataset that these options make. What standard input gives is not known before it is read. */
export async function isUpToDate(
  { data, tokenizer, validationFraction, length, textField, format }: DataOptions,
  folder: string,
): Promise<boolean> {
  if (data.includes(STANDARD_INPUT) || !(await exists(join(folder, INFO_FILE)))) return false
  const info = await readDatasetInfo(folder)
  const sources = await mapInOrder(data, (path) => describeSource(path, format)).catch((error: unknown) => {
    throw toMorError(error)
  })
  return (
    info.tokenizer.fingerprint === tokenizer.fingerprint &&
    info.tokenizer.end_token_id === tokenizer.eosTokenId &&
    info.validation_fraction === validationFraction &&
    info.length === (length ?? null) &&
    info.text_field === textField &&
    (info.text_format ?? null) === (format ?? null) &&
    isDeepStrictEqual(info.sources, sources)
  )
}
