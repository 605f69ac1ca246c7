// `mor prepare`: tokenizes text once into a dataset folder, from which any number of runs train.
import { findInputs } from '../dataset/inputs.js'
import { type TextFormat, verifyDataset } from '../dataset.js'
import type { Output } from './output.js'
import { buildData, isUpToDate, tellDataset } from './prepare_data.js'
import { findTokenizer } from './tokenizer_source.js'

export interface PrepareOptions {
  output: string
  tokenizer: string
  textField: string
  format?: TextFormat
  validationFraction: number
  /** Tokens of the rows that will be read. */
  length?: number
  threads?: number
}

/** A dataset that is there already is verified. Throws what `findInputs`, `buildDataset` and `verifyDataset` throw. */
export async function prepare(
  inputs: readonly string[],
  { output: folder, tokenizer: source, ...options }: PrepareOptions,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const tokenizer = await findTokenizer(source)
  const data = { ...options, data: await findInputs(inputs), tokenizer }
  if (await isUpToDate(data, folder)) tellDataset(folder, await verifyDataset(folder, signal), output)
  else await buildData(data, folder, output, signal)
}
