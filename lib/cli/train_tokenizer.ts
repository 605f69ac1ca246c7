// `mor tokenizer train`: trains a byte-level BPE tokenizer and shows the progress.
import type { TextFormat } from '../dataset/file_kind.js'
import { findInputs } from '../dataset/inputs.js'
import { type TrainTokenizerProgress, trainTokenizer } from '../tokenizer/training/train.js'
import { formatBytes, formatCount } from './format.js'
import type { Output } from './output.js'
import { reporter } from './prepare_data.js'

export interface TrainTokenizerCommand {
  output: string
  vocabSize: number
  specialTokens?: string[]
  textField: string
  format?: TextFormat
}

/** Throws what `findInputs` and `trainTokenizer` throw. */
export async function trainTokenizerCommand(
  inputs: readonly string[],
  { output: folder, ...options }: TrainTokenizerCommand,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const report = reporter(output)
  const onProgress = ({ bytes, words, merges }: TrainTokenizerProgress) =>
    report(() => [
      { type: 'train_tokenizer', bytes, words, merges },
      `${formatBytes(bytes)} read, ${formatCount(words)} different words, ${formatCount(merges)} merges`,
    ])
  try {
    const { vocabSize } = await trainTokenizer(await findInputs(inputs), folder, { ...options, onProgress, signal })
    output.end()
    const few =
      vocabSize < options.vocabSize
        ? `, fewer than ${options.vocabSize}: the text has no more pairs that come twice`
        : ''
    output.event({ type: 'tokenizer', folder, vocabSize }, `tokenizer: ${vocabSize} tokens${few}, in ${folder}`)
  } finally {
    output.end()
  }
}
