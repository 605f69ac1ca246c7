// Reads a tokenizer.json and makes the tokenizer that it describes.
import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { MorError, toMorError } from '../errors.js'
import { byteLevelTokenizer } from './byte_level.js'
import { HuggingFaceTokenizer, implementationOf } from './hugging_face.js'
import type { Tokenizer } from './interface.js'
import { findSpecialTokens } from './special_tokens.js'

export async function loadTokenizer(folderOrFile: string): Promise<Tokenizer> {
  const path = await tokenizerPath(folderOrFile)
  const bytes = await readFile(path).catch((error: unknown) => {
    throw toMorError(error)
  })
  const fingerprint = createHash('sha256').update(bytes).digest('hex')
  const builtIn = byteLevelTokenizer()
  if (fingerprint === builtIn.fingerprint) return builtIn

  const text = bytes.toString('utf8')
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new MorError('CHECKPOINT_INVALID', `${path} is not JSON: ${(error as Error).message}`)
  }
  if (typeof (json as { model?: { vocab?: unknown } } | null)?.model?.vocab !== 'object') {
    throw new MorError('CHECKPOINT_INVALID', `${path} is not a tokenizer: it has no model.vocab`)
  }
  try {
    const implementation = await implementationOf(json as object)
    const special = await findSpecialTokens(dirname(path), implementation.get_vocab(true))
    return new HuggingFaceTokenizer({ path, fingerprint, json: text, ...special }, implementation)
  } catch (error) {
    if (error instanceof MorError) throw error
    throw new MorError('CHECKPOINT_INVALID', `cannot make a tokenizer of ${path}: ${(error as Error).message}`)
  }
}

async function tokenizerPath(folderOrFile: string): Promise<string> {
  const kind = await stat(folderOrFile).catch(() => null)
  const path = kind?.isDirectory() ? join(folderOrFile, 'tokenizer.json') : folderOrFile
  if (kind?.isFile() || (await stat(path).catch(() => null))?.isFile()) return path
  throw new MorError(
    'CHECKPOINT_MISSING',
    `there is no tokenizer at ${path}: give a tokenizer.json, a folder that holds one, or use the byte-level tokenizer`,
  )
}
