// dataset.json, which describes the shard files beside it: their content and how to read them.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { checkPath, show } from '../check.js'
import { MorError, toMorError } from '../errors.js'
import { withoutByteOrderMark } from '../json_file.js'
import type { TextFormat } from './file_kind.js'

export const INFO_FILE = 'dataset.json'
const FORMAT = 'mor-token-dataset'
const VERSION = 1

export type SplitName = 'train' | 'validation'

/** One part of a dataset: a stream of tokens cut into shard files, read in this order. */
export interface DatasetSplit {
  tokens: number
  /** UTF-8 bytes of the text of the tokens; end tokens have none. */
  bytes: number
  /** Pieces of text, each followed by an end token. */
  documents: number
  /** `sha256` (hex) is that of the file. */
  shards: { file: string; tokens: number; sha256: string }[]
}

/**
 * dataset.json. A shard holds nothing but little-endian token ids of type `dtype`: uint16 if every id fits, else uint32.
 */
export interface DatasetInfo {
  format: typeof FORMAT
  version: typeof VERSION
  dtype: 'uint16' | 'uint32'
  tokenizer: { name: string; fingerprint: string; vocab_size: number; end_token_id: number }
  validation_fraction: number
  /** T of the rows of T + 1 tokens of which both splits were to have one; null: it was not given. */
  length: number | null
  /** Key of the text in JSONL lines, and the column of Parquet files. */
  text_field: string
  /** How the files were read where that was not left to their names. */
  text_format: TextFormat | null
  /** The files it was built from; `modified` is their modification time in milliseconds since 1970; standard input has neither. */
  sources: { path: string; bytes: number; modified: number }[]
  splits: Record<SplitName, DatasetSplit>
}

export const emptyInfo = { format: FORMAT, version: VERSION } as const

export function bytesPerId(dtype: DatasetInfo['dtype']): 2 | 4 {
  return dtype === 'uint16' ? 2 : 4
}

export function dtypeFor(vocabSize: number): DatasetInfo['dtype'] {
  return vocabSize <= 65536 ? 'uint16' : 'uint32'
}

export async function writeDatasetInfo(folder: string, info: DatasetInfo): Promise<void> {
  const path = join(folder, INFO_FILE)
  await writeFile(path, `${JSON.stringify(info, null, 2)}\n`).catch((error: unknown) => {
    throw toMorError(error, path)
  })
}

/**
 * Reads dataset.json and checks that every shard exists and has the recorded length.
 * Throws `IO_ERROR` for a folder that is no dataset, a damaged dataset.json, or a missing or truncated shard.
 */
export async function readDatasetInfo(folder: string): Promise<DatasetInfo> {
  checkPath(folder, 'readDatasetInfo: the folder')
  const path = join(folder, INFO_FILE)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw toMorError(error, path)
    throw new MorError('IO_ERROR', `${folder} is not a token dataset, or not a finished one: it has no ${INFO_FILE}`)
  })
  const info = parseInfo(text, path)
  for (const split of [info.splits.train, info.splits.validation]) {
    for (const shard of split.shards) await checkShard(join(folder, shard.file), shard.tokens * bytesPerId(info.dtype))
  }
  return info
}

/** Whether dataset.json in `folder` says that it is of a dataset. */
export async function isDatasetFolder(folder: string): Promise<boolean> {
  try {
    const info = JSON.parse(withoutByteOrderMark(await readFile(join(folder, INFO_FILE), 'utf8')))
    return info?.format === FORMAT
  } catch {
    return false
  }
}

function parseInfo(text: string, path: string): DatasetInfo {
  const refuse = (reason: string): never => {
    throw new MorError('IO_ERROR', `${path} ${reason}: delete its folder and build the dataset again`)
  }
  let info: DatasetInfo
  try {
    info = JSON.parse(withoutByteOrderMark(text))
  } catch (error) {
    return refuse(`is not JSON (${(error as Error).message})`)
  }
  if (info?.format !== FORMAT) return refuse(`has format ${JSON.stringify(info?.format)}, not "${FORMAT}"`)
  if (info.version !== VERSION)
    return refuse(`has version ${JSON.stringify(info.version)}; this release reads ${VERSION}`)
  if (info.dtype !== 'uint16' && info.dtype !== 'uint32') return refuse(`has dtype ${JSON.stringify(info.dtype)}`)
  for (const key of ['vocab_size', 'end_token_id'] as const) {
    if (!isCount(info.tokenizer?.[key])) return refuse(`has no tokenizer.${key}`)
  }
  for (const name of ['train', 'validation'] as const) {
    const split = info.splits?.[name]
    if (!isCount(split?.tokens) || !isCount(split.bytes) || !Array.isArray(split.shards))
      return refuse(`has no ${name} split`)
    const wrong = split.shards.find((shard) => !isShard(shard))
    if (wrong !== undefined) return refuse(`has a ${name} shard that is ${show(wrong)}`)
    const sum = split.shards.reduce((tokens, shard) => tokens + shard.tokens, 0)
    if (sum !== split.tokens) return refuse(`counts ${split.tokens} ${name} tokens, but its shards hold ${sum}`)
  }
  return info
}

/** With a file in the same folder. */
function isShard(value: unknown): boolean {
  const { file, tokens, sha256 } = (value ?? {}) as Record<string, unknown>
  return (
    typeof file === 'string' && file !== '' && file === basename(file) && isCount(tokens) && typeof sha256 === 'string'
  )
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/**
 * Compares the checksum of every shard with the recorded one. Throws `IO_ERROR`, naming the shard, if they differ; `ABORTED`; what
 * `readDatasetInfo` throws.
 */
export async function verifyDataset(folder: string, signal?: AbortSignal): Promise<DatasetInfo> {
  const info = await readDatasetInfo(folder)
  for (const { file, sha256 } of Object.values(info.splits).flatMap((split) => split.shards)) {
    const path = join(folder, file)
    const hash = createHash('sha256')
    try {
      for await (const chunk of createReadStream(path, { signal, highWaterMark: 1 << 20 })) hash.update(chunk)
    } catch (error) {
      throw toMorError(error, path)
    }
    const found = hash.digest('hex')
    if (found !== sha256) {
      throw new MorError(
        'IO_ERROR',
        `shard ${path} is damaged: its SHA-256 is ${found}, not ${sha256}; delete ${folder} and build the dataset again`,
      )
    }
  }
  return info
}

async function checkShard(path: string, expected: number): Promise<void> {
  const { size } = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw toMorError(error)
    throw new MorError('IO_ERROR', `shard ${path} is missing; delete its folder and build the dataset again`)
  })
  if (size === expected) return
  const how = size < expected ? 'truncated' : 'too long'
  throw new MorError(
    'IO_ERROR',
    `shard ${path} is ${how}: ${size} bytes, not ${expected}; delete its folder and build the dataset again`,
  )
}
