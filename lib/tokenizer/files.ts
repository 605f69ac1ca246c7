// The files of a tokenizer in a folder: reads them, writes them, and removes those of the tokenizer that was there before.
import { existsSync } from 'node:fs'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { toMorError } from '../errors.js'
import { mapInOrder } from '../map_in_order.js'
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
  await replaceFile(join(folder, tokenizerFileName), text)
  if (config !== undefined) await replaceFile(join(folder, configName), config)
  const others = companionNames.filter((name) => name !== configName || config === undefined)
  for (const name of others) await rm(join(folder, name), { force: true }).catch(rethrow)
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
  return {
    async save(folder) {
      for (const { name, source, content } of files) {
        const target = join(folder, name)
        if (resolve(source) === resolve(target)) continue
        if (content !== null) await replaceFile(target, content)
        else await rm(target, { force: true }).catch(rethrow)
      }
    },
  }
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
