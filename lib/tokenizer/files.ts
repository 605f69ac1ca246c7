// The files of a tokenizer in a folder: reads them, writes them, and removes those of the tokenizer that was there before.
import { existsSync } from 'node:fs'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { toMorError } from '../errors.js'
import { makeFolder } from '../make_folder.js'
import { mapInOrder } from '../map_in_order.js'
import type { Tokenizer, TokenizerFile } from './interface.js'

/** The part of a tokenizer that a model keeps to save it beside its weights. */
export type SavedTokenizer = Pick<Tokenizer, 'filesFor'>

export const tokenizerFileName = 'tokenizer.json'
/** Files that Hugging Face puts beside it; each tokenizer has some of them. */
const configName = 'tokenizer_config.json'
const companionNames = [
  configName,
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'chat_template.json',
  'tokenizer.model',
  'vocab.json',
  'merges.txt',
]

/** Those of a tokenizer that is a tokenizer.json and perhaps a tokenizer_config.json. */
export function tokenizerFiles(json: string, config: string | null = null): TokenizerFile[] {
  const others = companionNames.map((name) => ({ name, content: name === configName ? config : null }))
  return [{ name: tokenizerFileName, content: json }, ...others]
}

/** Makes `folder` and writes the files into it, each whole or not at all. */
export async function writeTokenizerFiles(files: readonly TokenizerFile[], folder: string): Promise<void> {
  await makeFolder(folder).catch(rethrow)
  for (const { name, content } of files) if (content !== null) await replaceFile(join(folder, name), content)
  await removeOtherFiles(files, folder)
}

/** Removes from `folder` what the tokenizer of these files does not have, and the one before it had. */
export async function removeOtherFiles(files: readonly TokenizerFile[], folder: string): Promise<void> {
  for (const { name, content } of files) {
    if (content === null) await rm(join(folder, name), { force: true }).catch(rethrow)
  }
}

/**
 * The tokenizer.json at `file` and what belongs to it in the folder `from`, as they are now: when a training run saves them, they may
 * have been removed, or be those of another tokenizer. Where a file is saved to its own place, it stays as it is there.
 */
export async function readTokenizerFiles(file: string, from: string): Promise<SavedTokenizer> {
  const files = await mapInOrder([tokenizerFileName, ...companionNames], async (name) => {
    const source = name === tokenizerFileName ? file : join(from, name)
    return { name, source, content: await readOptionalFile(source) }
  })
  return { filesFor: (folder) => files.filter(({ name, source }) => resolve(source) !== resolve(folder, name)) }
}

/**
 * The tokenizer in a folder, as files that can be saved elsewhere; null where there is none. One that is not read, such as a
 * tokenizer.model alone, is kept too.
 */
export async function findTokenizerFiles(folder: string): Promise<SavedTokenizer | null> {
  const isThere = [tokenizerFileName, ...companionNames].some((name) => existsSync(join(folder, name)))
  return isThere ? readTokenizerFiles(join(folder, tokenizerFileName), folder) : null
}

/** Null where there is no such file. */
async function readOptionalFile(path: string): Promise<Uint8Array | null> {
  try {
    return await readFile(path)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes((error as NodeJS.ErrnoException).code!)) return null
    throw toMorError(error, path)
  }
}

/** Writes the file aside and then renames it, so that it is there whole or as it was. */
async function replaceFile(target: string, content: string | Uint8Array): Promise<void> {
  const aside = `${target}.partial`
  try {
    await writeFile(aside, content)
    await rename(aside, target)
  } catch (error) {
    await rm(aside, { force: true }).catch(() => {})
    throw toMorError(error, target)
  }
}

function rethrow(error: unknown): never {
  throw toMorError(error)
}
