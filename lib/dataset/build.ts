// Turns text, JSON Lines and Parquet files into a token dataset on disk.
import { lstat, readdir, realpath, rename, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { checkPath } from '../check.js'
import { ifGone, MorError, toMorError } from '../errors.js'
import { holdFolder } from '../folder_lock.js'
import { makeFolder } from '../make_folder.js'
import { mapInOrder } from '../map_in_order.js'
import {
  type BuildDatasetOptions,
  type ResolvedBuildOptions,
  resolveBuildOptions,
  resolveFiles,
} from './build_options.js'
import { encodeSegments } from './encode.js'
import { fileKind, STANDARD_INPUT, type TextFormat } from './file_kind.js'
import { type DatasetInfo, dtypeFor, emptyInfo, INFO_FILE, isDatasetFolder, writeDatasetInfo } from './format.js'
import { readSegments } from './source.js'
import { SplitWriter } from './split.js'
import {
  type DatasetRecipe,
  isUnfinished,
  NEW_UNFINISHED_FILE,
  readUnfinished,
  removeUnfinished,
  UNFINISHED_FILE,
  writeUnfinished,
} from './unfinished.js'

/** Tokens between two records of an unfinished dataset: some seconds of work are lost at most. */
const RECORD_TOKENS = 1 << 22

/**
 * Tokenizes `files` in order into the dataset folder `folder`, with an end token after every document. `-` is standard input.
 * Files ending in `.jsonl`, `.ndjson` or `.jsonlines` hold a document per line, those ending in `.parquet` one per row; any other
 * file is one document. `.gz`, `.zst` and `.xz` after that are unpacked on the way. Memory holds the longest line or row group
 * and some 4 million tokens, whatever the size of the files.
 *
 * The validation split gets its share of the tokens within 10%, in pieces that are evenly spread: whole documents, and parts
 * of those too long for that. An end token takes the place of each piece that was removed, so that the gap is marked in every
 * row.
 *
 * The dataset is written to the folder `<folder>.partial` and renamed when it is complete; only then is an earlier dataset in
 * `folder` replaced. A build that ends early leaves that folder once it has written some million tokens, and the same call goes
 * on from there, to the same dataset.
 *
 * Throws `INVALID_ARGUMENT` for a file without text or of a kind that is not text, a malformed line, a damaged archive, a
 * tokenizer without an end token, too little text for the two splits, a folder with other files in it or with a disk of its own, or one
 * that another call or process writes to; `IO_ERROR` if the disk fails; `ABORTED` if the signal aborts.
 */
export async function buildDataset(
  files: readonly string[],
  folder: string,
  options: BuildDatasetOptions,
): Promise<DatasetInfo> {
  const resolved = resolveBuildOptions(options)
  const paths = resolveFiles(files, 'buildDataset')
  checkPath(folder, 'buildDataset: the folder')
  const { tokenizer, validationFraction, length, textField, format, shardTokens } = resolved
  try {
    await checkReplaceable(folder)
    const { name, fingerprint, vocabSize, eosTokenId } = tokenizer
    const recipe: DatasetRecipe = {
      ...emptyInfo,
      dtype: dtypeFor(vocabSize),
      tokenizer: { name, fingerprint, vocab_size: vocabSize, end_token_id: eosTokenId! },
      validation_fraction: validationFraction,
      length,
      text_field: textField,
      text_format: format,
      sources: await mapInOrder(paths, (path) => describeSource(path, format)),
      shard_tokens: shardTokens,
    }
    const aside = partialFolder(folder)
    await makeFolder(dirname(aside))
    // Two processes that wrote into it would make a dataset of parts of both.
    await using _held = await holdFolder(aside)
    await checkPartial(aside)
    const info = await build(paths, aside, recipe, resolved)
    await checkReplaceable(folder) // again: hours may have passed
    await removeDataset(folder)
    await rename(aside, folder)
    // A process that is killed before goes on from the record, with the last tokens alone to make again.
    await removeUnfinished(folder)
    return info
  } catch (error) {
    throw toMorError(error)
  }
}

/** Begins or goes on with the dataset in `folder`. Of one that fails, what is worth going on with stays. */
async function build(
  files: readonly string[],
  folder: string,
  recipe: DatasetRecipe,
  { tokenizer, threads, signal, onProgress }: ResolvedBuildOptions,
): Promise<DatasetInfo> {
  try {
    const before = await readUnfinished(folder, recipe)
    if (before === null) await rm(folder, { recursive: true, force: true })
    await makeFolder(folder)
    const { shard_tokens: shardTokens, ...description } = recipe
    const split = { tokenizer, fraction: recipe.validation_fraction, length: recipe.length ?? undefined, shardTokens }
    const writer = await SplitWriter.open(folder, recipe.dtype, split, before?.split ?? null)
    try {
      const read = { textField: recipe.text_field, format: recipe.text_format, signal }
      const segments = readSegments(files, read, before?.place)
      let { bytes, tokens } = before ?? { bytes: 0, tokens: 0 }
      let recorded = tokens
      for await (const segment of encodeSegments(segments, { tokenizer, threads, signal })) {
        await writer.push(segment)
        bytes += segment.bytes
        tokens += segment.ids.length + (segment.endsDocument ? 1 : 0)
        onProgress?.({ bytes, tokens })
        if (!writer.settled || tokens - recorded < RECORD_TOKENS) continue
        recorded = tokens
        await writeUnfinished(folder, { recipe, place: segment.after, split: await writer.state(), bytes, tokens })
      }
      await writer.finish()
    } finally {
      await writer.close()
    }
    const info: DatasetInfo = { ...description, splits: writer.splits }
    await writeDatasetInfo(folder, info)
    return info
  } catch (error) {
    if (!(await isUnfinished(folder))) await rm(folder, { recursive: true, force: true })
    throw error
  }
}

/** Where the dataset in `folder` is built. */
export function partialFolder(folder: string): string {
  return `${resolve(folder)}.partial`
}

/** Its description goes last: what a process that is killed leaves is still a dataset, which the next call replaces. */
async function removeDataset(folder: string): Promise<void> {
  const names = await readdir(folder).catch(ifGone(null))
  if (names === null) return
  for (const name of names) if (isDatasetFile(name) && name !== INFO_FILE) await rm(join(folder, name), { force: true })
  await rm(join(folder, INFO_FILE), { force: true })
  await rmdir(folder)
}

/** What a build leaves in its folder is removed or gone on with, and nothing else may be there. */
async function checkPartial(folder: string): Promise<void> {
  const other = (await readdir(folder).catch(ifGone<string[]>([]))).find((name) => !isDatasetFile(name))
  if (other === undefined) return
  throw new MorError(
    'INVALID_ARGUMENT',
    `${folder}, where the dataset would be built, holds ${other}: choose another folder for the dataset, or move this one away`,
  )
}

/** Only a dataset, with nothing else beside its files, or an empty folder may be replaced. */
async function checkReplaceable(folder: string): Promise<void> {
  const refuse = (problem: string): never => {
    throw new MorError('INVALID_ARGUMENT', `${folder} ${problem}`)
  }
  const entries = await readdir(folder).catch((error: NodeJS.ErrnoException): null => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (entries === null) return
  const found = await lstat(folder)
  if (found.isSymbolicLink())
    refuse(`is a link, which a new folder would replace: give the folder that it leads to, ${await realpath(folder)}`)
  if (found.dev !== (await stat(dirname(resolve(folder)))).dev)
    refuse(
      `is where a disk is mounted, which no new folder can replace: choose a folder in it, such as ${join(folder, 'dataset')}`,
    )
  const isDataset = await isDatasetFolder(folder)
  const other = entries.find((name) => !isDataset || !isDatasetFile(name))
  if (other === undefined) return
  refuse(
    isDataset
      ? `holds ${other} beside a dataset that would be replaced: choose another folder, or move ${other} away`
      : `holds ${other} and is not a dataset: choose another folder or empty it`,
  )
}

function isDatasetFile(name: string): boolean {
  return (
    [INFO_FILE, UNFINISHED_FILE, NEW_UNFINISHED_FILE].includes(name) || /^(train|validation)-\d{5,}\.bin$/.test(name)
  )
}

/**
 * The record of a source file in dataset.json, from which a later run can tell whether the file has changed. Throws
 * `INVALID_ARGUMENT` for a file whose name says that it is not text, `IO_ERROR` for a folder or a missing file.
 */
export async function describeSource(
  path: string,
  format: TextFormat | null = null,
): Promise<DatasetInfo['sources'][number]> {
  fileKind(path, format)
  if (path === STANDARD_INPUT) return { path, bytes: 0, modified: 0 }
  const file = await stat(path)
  if (file.isDirectory()) {
    const isDataset = (await readdir(path)).includes(INFO_FILE)
    throw new MorError(
      'IO_ERROR',
      isDataset
        ? `${path} is a dataset: give it alone, without other files, or mix datasets by weight, as in --data ${path}=1 other=1`
        : `${path} is a folder: name the text files in it`,
    )
  }
  return { path: resolve(path), bytes: file.size, modified: Math.round(file.mtimeMs) }
}
