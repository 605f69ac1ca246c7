// Turns text and JSONL files into a token dataset on disk.
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { MorError, throwIfAborted, toMorError } from '../errors.js'
import type { Tokenizer } from '../tokenizer.js'
import { type DatasetInfo, dtypeFor, emptyInfo, INFO_FILE, type SplitName, writeDatasetInfo } from './format.js'
import { readSegments } from './source.js'
import { ShardWriter } from './writer.js'

export interface BuildDatasetOptions {
  tokenizer: Tokenizer
  /** Share of the text held out for validation, 0 (default) to 0.5. */
  validationFraction?: number
  /** Key of the text in a JSONL line, `text` by default. */
  textField?: string
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

/**
 * Tokenizes `files` in order into the dataset folder `folder`, with an end token after every document. Files ending in
 * `.jsonl` or `.ndjson` hold a document per line; any other file is one document. Memory grows with the longest line, not
 * with the files.
 *
 * The validation split gets evenly spread pieces: whole documents of a JSONL file, segments of some 16 thousand characters
 * of a plain text. An end token takes the place of each piece that was removed, so that the gap is marked in every row.
 *
 * The dataset is written to a temporary folder and renamed when it is complete; only then is an earlier dataset in `folder`
 * replaced. Throws `INVALID_ARGUMENT` for a file without text, a malformed line, a tokenizer without an end token, a split
 * that stays empty, or a folder with other files in it; `IO_ERROR` if the disk fails; `ABORTED` if the signal aborts.
 */
export async function buildDataset(
  files: readonly string[],
  folder: string,
  options: BuildDatasetOptions,
): Promise<DatasetInfo> {
  const { tokenizer, validationFraction = 0, textField = 'text', shardTokens = 2 ** 27, onProgress, signal } = options
  checkOptions(files, tokenizer, validationFraction, shardTokens)
  const aside = `${resolve(folder)}.partial`
  try {
    await checkReplaceable(folder)
    const sources = await Promise.all(files.map(describeSource))
    await rm(aside, { recursive: true, force: true })
    await mkdir(aside, { recursive: true })
    const dtype = dtypeFor(tokenizer.vocabSize)
    const writers = {
      train: new ShardWriter(aside, 'train', dtype, shardTokens),
      validation: new ShardWriter(aside, 'validation', dtype, shardTokens),
    }
    try {
      await writeTokens(files, writers, { tokenizer, validationFraction, textField, onProgress, signal })
    } finally {
      await Promise.all([writers.train.close(), writers.validation.close()])
    }
    const splits = { train: writers.train.split, validation: writers.validation.split }
    checkSplits(splits, validationFraction)
    const { name, fingerprint, vocabSize, eosTokenId } = tokenizer
    const info: DatasetInfo = {
      ...emptyInfo,
      dtype,
      tokenizer: { name, fingerprint, vocab_size: vocabSize, end_token_id: eosTokenId! },
      validation_fraction: validationFraction,
      text_field: textField,
      sources,
      splits,
    }
    await writeDatasetInfo(aside, info)
    await rm(folder, { recursive: true, force: true })
    await mkdir(dirname(resolve(folder)), { recursive: true })
    await rename(aside, folder)
    return info
  } catch (error) {
    await rm(aside, { recursive: true, force: true })
    throw toMorError(error)
  }
}

async function writeTokens(
  files: readonly string[],
  writers: Record<SplitName, ShardWriter>,
  options: Required<Pick<BuildDatasetOptions, 'tokenizer' | 'validationFraction' | 'textField'>> &
    Pick<BuildDatasetOptions, 'onProgress' | 'signal'>,
): Promise<void> {
  const { tokenizer, validationFraction, textField, onProgress, signal } = options
  const endToken = Int32Array.of(tokenizer.eosTokenId!)
  const progress: BuildProgress = { bytes: 0, tokens: 0 }
  let open: SplitName | null = null
  const endDocument = async (name: SplitName) => {
    await writers[name].append(endToken)
    writers[name].split.documents++
    progress.tokens++
    open = null
  }
  for (const file of files) {
    for await (const { text, endsDocument } of readSegments(file, textField)) {
      throwIfAborted(signal, 'building the dataset')
      const bytes = Buffer.byteLength(text)
      // A piece is held out as soon as the validation split is half a piece below its share.
      const due = validationFraction * (progress.bytes + bytes) - writers.validation.split.bytes
      const name: SplitName = validationFraction > 0 && due >= bytes / 2 ? 'validation' : 'train'
      if (open !== null && open !== name) await endDocument(open)
      const ids = tokenizer.encode(text, { addSpecialTokens: false })
      await writers[name].append(ids)
      writers[name].split.bytes += bytes
      progress.bytes += bytes
      progress.tokens += ids.length
      open = name
      if (endsDocument) await endDocument(name)
      onProgress?.({ ...progress })
    }
  }
}

function checkOptions(
  files: readonly string[],
  tokenizer: Tokenizer,
  validationFraction: number,
  shardTokens: number,
): void {
  if (files.length === 0)
    throw new MorError('INVALID_ARGUMENT', 'a dataset needs at least one text or JSONL file, not none')
  if (tokenizer.eosTokenId === null) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `tokenizer ${tokenizer.name} has no end token to put between documents: name one as eos_token in its tokenizer_config.json`,
    )
  }
  if (!(validationFraction >= 0 && validationFraction <= 0.5)) {
    throw new MorError('INVALID_ARGUMENT', `validationFraction is ${validationFraction}: it must be between 0 and 0.5`)
  }
  if (!Number.isSafeInteger(shardTokens) || shardTokens < 1) {
    throw new MorError('INVALID_ARGUMENT', `shardTokens is ${shardTokens}: it must be a positive integer`)
  }
}

/** Only a dataset or an empty folder may be replaced. */
async function checkReplaceable(folder: string): Promise<void> {
  const entries = await readdir(folder).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  if (entries.length > 0 && !entries.includes(INFO_FILE)) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `${folder} holds ${entries[0]} and is not a dataset: choose another folder or empty it`,
    )
  }
}

/** The record of a source file in dataset.json, from which a later run can tell whether the file has changed. */
export async function describeSource(path: string): Promise<DatasetInfo['sources'][number]> {
  const { size, mtimeMs } = await stat(path)
  return { path: resolve(path), bytes: size, modified: Math.round(mtimeMs) }
}

function checkSplits(splits: DatasetInfo['splits'], validationFraction: number): void {
  if (splits.train.tokens > 0 && (validationFraction === 0 || splits.validation.tokens > 0)) return
  const bytes = splits.train.bytes + splits.validation.bytes
  throw new MorError(
    'INVALID_ARGUMENT',
    `${bytes} bytes of text in ${splits.train.documents + splits.validation.documents} pieces are too few to hold out ${validationFraction} of them: give more text, or a larger fraction`,
  )
}
