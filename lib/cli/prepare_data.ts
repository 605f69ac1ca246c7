// Provides a training run's token dataset: an existing one, or one built from text.
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { describeSource } from '../dataset/build.js'
import { INFO_FILE } from '../dataset/format.js'
import { buildDataset, readDatasetInfo } from '../dataset.js'
import { toMorError } from '../errors.js'
import type { Tokenizer } from '../tokenizer.js'
import { formatBytes, formatCount } from './format.js'
import type { Output } from './output.js'

export interface DataOptions {
  /** One dataset folder, or text and JSONL files. */
  data: readonly string[]
  tokenizer: Tokenizer
  textField: string
  validationFraction: number
  /** Tokens of a row. */
  length: number
}

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
  const { data, ...buildOptions } = options
  if (data.length === 1 && (await exists(join(data[0]!, INFO_FILE)))) return data[0]!
  if (await isUpToDate(options, folder)) return folder
  const onProgress = (progress: { bytes: number; tokens: number }) =>
    output.progress(
      { type: 'tokenize', ...progress },
      `tokenizing: ${formatBytes(progress.bytes)}, ${formatCount(progress.tokens)} tokens`,
    )
  const { splits } = await buildDataset(data, folder, {
    ...buildOptions,
    signal,
    ...(output.mode === 'terminal' ? { onProgress } : {}),
  })
  output.end()
  const tokens = { train: splits.train.tokens, validation: splits.validation.tokens }
  output.event(
    { type: 'dataset', folder, ...tokens },
    `dataset: ${formatCount(tokens.train)} tokens to train on, ${formatCount(tokens.validation)} held out, in ${folder}`,
  )
  return folder
}

async function isUpToDate(
  { data, tokenizer, validationFraction, length, textField }: DataOptions,
  folder: string,
): Promise<boolean> {
  if (!(await exists(join(folder, INFO_FILE)))) return false
  const info = await readDatasetInfo(folder)
  const sources = await Promise.all(data.map(describeSource)).catch((error: unknown) => {
    throw toMorError(error)
  })
  return (
    info.tokenizer.fingerprint === tokenizer.fingerprint &&
    info.validation_fraction === validationFraction &&
    info.length === length &&
    info.text_field === textField &&
    isDeepStrictEqual(info.sources, sources)
  )
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null
}
