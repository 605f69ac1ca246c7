// The files of a tokenizer in a folder: writes them, copies them, and removes those of the tokenizer that was there before.
import { copyFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { toMorError } from '../errors.js'
import type { Tokenizer } from './interface.js'

/** The part of a tokenizer that a model keeps to save it beside its weights. */
export type SavedTokenizer = Pick<Tokenizer, 'save'>

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

/** Makes `text` the tokenizer.json of `folder`, and `config`, if there is one, its tokenizer_config.json. */
export async function writeTokenizerFiles(text: string, folder: string, config?: string): Promise<void> {
  await replaceFile(join(folder, tokenizerFileName), (path) => writeFile(path, text))
  if (config !== undefined) await replaceFile(join(folder, configName), (path) => writeFile(path, config))
  const others = companionNames.filter((name) => name !== configName || config === undefined)
  for (const name of others) await rm(join(folder, name), { force: true }).catch(rethrow)
}

/** Copies the tokenizer.json at `file` and what belongs to it, from the folder `from`, to `folder`. */
export async function copyTokenizerFiles(file: string, from: string, folder: string): Promise<void> {
  for (const name of [tokenizerFileName, ...companionNames]) {
    const source = name === tokenizerFileName ? file : join(from, name)
    const target = join(folder, name)
    if (resolve(source) === resolve(target)) continue
    if (await exists(source)) await replaceFile(target, (path) => copyFile(source, path))
    else await rm(target, { force: true }).catch(rethrow)
  }
}

/**
 * The tokenizer in a folder, as files that can be saved elsewhere; null where there is none. One that is not read, such as a
 * tokenizer.model alone, is kept too.
 */
export async function findTokenizerFiles(folder: string): Promise<SavedTokenizer | null> {
  for (const name of [tokenizerFileName, ...companionNames]) {
    if (!(await exists(join(folder, name)))) continue
    return { save: (target) => copyTokenizerFiles(join(folder, tokenizerFileName), folder, target) }
  }
  return null
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null
}

/** Writes the file aside and then renames it, so that it is there whole or as it was. */
async function replaceFile(target: string, write: (path: string) => Promise<void>): Promise<void> {
  const aside = `${target}.partial`
  try {
    await write(aside)
    await rename(aside, target)
  } catch (error) {
    await rm(aside, { force: true }).catch(() => {})
    throw toMorError(error, target)
  }
}

function rethrow(error: unknown): never {
  throw toMorError(error)
}
