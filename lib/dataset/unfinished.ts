// The record of a dataset that is being built, from which a later call goes on. It lies in the folder with the shards.
import { open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { toMorError } from '../errors.js'
import { exists } from '../exists.js'
import type { DatasetInfo } from './format.js'
import type { SourcePlace } from './source.js'
import type { SplitState } from './split.js'

/** What decides which tokens a dataset holds. */
export type DatasetRecipe = Omit<DatasetInfo, 'splits'> & { shard_tokens: number }

export interface Unfinished {
  recipe: DatasetRecipe
  /** Up to where the sources are written. */
  place: SourcePlace
  split: SplitState
  /** UTF-8 bytes of text and tokens so far. */
  bytes: number
  tokens: number
}

export const UNFINISHED_FILE = 'unfinished.json'
/** The record while it is written; a process that is killed then leaves it. */
export const NEW_UNFINISHED_FILE = `${UNFINISHED_FILE}.new`

/** The record in `folder`, if it is one of the same dataset; else null. */
export async function readUnfinished(folder: string, recipe: DatasetRecipe): Promise<Unfinished | null> {
  try {
    const record: Unfinished = JSON.parse(await readFile(join(folder, UNFINISHED_FILE), 'utf8'))
    return isDeepStrictEqual(record.recipe, recipe) ? record : null
  } catch {
    return null // It is missing, or damaged: there is nothing to go on from.
  }
}

/** Whether there is something in `folder` to go on from. */
export async function isUnfinished(folder: string): Promise<boolean> {
  return exists(join(folder, UNFINISHED_FILE))
}

export async function removeUnfinished(folder: string): Promise<void> {
  for (const name of [NEW_UNFINISHED_FILE, UNFINISHED_FILE]) await rm(join(folder, name), { force: true })
}

/** The record is there whole, as it was before, or not at all. */
export async function writeUnfinished(folder: string, record: Unfinished): Promise<void> {
  const path = join(folder, UNFINISHED_FILE)
  const newPath = join(folder, NEW_UNFINISHED_FILE)
  const file = await open(newPath, 'w')
  try {
    await file.writeFile(JSON.stringify(record))
    await file.sync()
  } catch (error) {
    throw toMorError(error, path)
  } finally {
    await file.close()
  }
  await rename(newPath, path)
}
