// Turns text and JSONL files into a token dataset on disk.
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { MorError, toMorError } from '../errors.js'
import type { Tokenizer } from '../tokenizer.js'
import { encodeSegments } from './encode.js'
import { textKind } from './file_kind.js'
import { type DatasetInfo, dtypeFor, emptyInfo, INFO_FILE, writeDatasetInfo } from './format.js'
import { SplitWriter } from './split.js'

export interface BuildDatasetOptions {
  tokenizer: Tokenizer
  /** Share of the tokens held out for validation, 0 (default) to 0.5. */
  validationFraction?: number
  /** T of the rows that will be read. Where text is held out, both splits then have at least one row of T + 1 tokens. */
  length?: number
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
 * `.jsonl`, `.ndjson` or `.jsonlines` hold a document per line; any other file is one document. Memory holds the longest line
 * and some 4 million tokens, whatever the size of the files.
 *
 * The validation split gets its share of the tokens within 10%, in pieces that are evenly spread: whole documents, and parts
 * of those too long for that. An end token takes the place of each piece that was removed, so that the gap is marked in every
 * row.
 *
 * The dataset is written to a temporary folder and renamed when it is complete; only then is an earlier dataset in `folder`
 * replaced. Throws `INVALID_ARGUMENT` for a file without text or of a kind that is not text, a malformed line, a tokenizer
 * without an end token, too little text for the two splits, or a folder with other files in it; `IO_ERROR` if the disk fails;
 * `ABORTED` if the signal aborts.
 */
export async function buildDataset(
  files: readonly string[],
  folder: string,
  options: BuildDatasetOptions,
): Promise<DatasetInfo> {
  const { tokenizer, validationFraction = 0, length, textField = 'text', shardTokens = 2 ** 27, signal } = options
  checkOptions(files, tokenizer, validationFraction, length, shardTokens)
  const aside = `${resolve(folder)}.partial`
  try {
    await checkReplaceable(folder)
    const sources = await Promise.all(files.map(describeSource))
    await rm(aside, { recursive: true, force: true })
    await mkdir(aside, { recursive: true })
    const dtype = dtypeFor(tokenizer.vocabSize)
    const writer = new SplitWriter(aside, dtype, { tokenizer, fraction: validationFraction, length, shardTokens })
    try {
      const progress: BuildProgress = { bytes: 0, tokens: 0 }
      for await (const segment of encodeSegments(files, { tokenizer, textField, signal })) {
        await writer.push(segment)
        progress.bytes += segment.bytes
        progress.tokens += segment.ids.length + (segment.endsDocument ? 1 : 0)
        options.onProgress?.({ ...progress })
      }
      await writer.finish()
    } finally {
      await writer.close()
    }
    const { name, fingerprint, vocabSize, eosTokenId } = tokenizer
    const info: DatasetInfo = {
      ...emptyInfo,
      dtype,
      tokenizer: { name, fingerprint, vocab_size: vocabSize, end_token_id: eosTokenId! },
      validation_fraction: validationFraction,
      length: length ?? null,
      text_field: textField,
      sources,
      splits: writer.splits,
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

function checkOptions(
  files: readonly string[],
  tokenizer: Tokenizer,
  validationFraction: number,
  length: number | undefined,
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
  if (length !== undefined && (!Number.isSafeInteger(length) || length < 1)) {
    throw new MorError('INVALID_ARGUMENT', `length is ${length}: it must be a positive integer`)
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

/**
 * The record of a source file in dataset.json, from which a later run can tell whether the file has changed. Throws
 * `INVALID_ARGUMENT` for a file whose name says that it is not text, `IO_ERROR` for a folder or a missing file.
 */
export async function describeSource(path: string): Promise<DatasetInfo['sources'][number]> {
  const file = await stat(path)
  if (file.isDirectory()) {
    const isDataset = (await readdir(path)).includes(INFO_FILE)
    throw new MorError(
      'IO_ERROR',
      isDataset
        ? `${path} is a dataset: give it alone, without other files`
        : `${path} is a folder: name the text files in it`,
    )
  }
  textKind(path)
  return { path: resolve(path), bytes: file.size, modified: Math.round(file.mtimeMs) }
}
