// Reads a tokenizer.json and makes the tokenizer that it describes.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Checker, checkPath } from '../check.js'
import { MorError } from '../errors.js'
import { isGguf, readGguf } from '../gguf/reader.js'
import { ggufTokenizer, ggufTokenizerFiles, tokenizerBeside } from '../gguf/tokenizer.js'
import { parseJson, readTextFile } from '../json_file.js'
import { finishSave } from '../unfinished_save.js'
import { byteLevelTokenizer } from './byte_level.js'
import { readTokenizerFiles } from './files.js'
import { HuggingFaceTokenizer } from './hugging_face.js'
import type { Tokenizer } from './interface.js'
import { makeLibraryTokenizer, type TokenizerJson } from './library.js'
import { findSpecialTokens, specialTokens } from './special_tokens.js'
import { checkTables } from './tables.js'

export async function loadTokenizer(folderOrFile: string): Promise<Tokenizer> {
  checkPath(folderOrFile, 'Tokenizer.load: the folder or file')
  if (await isGguf(folderOrFile)) return loadFromGguf(folderOrFile)
  const path = await tokenizerPath(folderOrFile)
  const text = await readTextFile(path)
  if (text === undefined) throw missing(path)
  const fingerprint = createHash('sha256').update(text).digest('hex')
  const builtIn = byteLevelTokenizer()
  if (fingerprint === builtIn.fingerprint) return builtIn

  const json = parseJson(text, path) as TokenizerJson | null
  if (typeof json?.model?.vocab !== 'object') {
    throw new MorError('CHECKPOINT_INVALID', `${path} is not a tokenizer: it has no model.vocab`)
  }
  checkTables(json, path)
  try {
    const implementation = await makeLibraryTokenizer(json)
    const special = await findSpecialTokens(dirname(path), implementation.get_vocab(true))
    const { filesFor } = await readTokenizerFiles(path, dirname(path))
    return new HuggingFaceTokenizer({ path, fingerprint, json: text, ...special }, implementation, filesFor)
  } catch (error) {
    if (error instanceof MorError) throw error
    throw new MorError('CHECKPOINT_INVALID', `cannot make a tokenizer of ${path}: ${(error as Error).message}`)
  }
}

/** That of a tokenizer.json beside the file, or else the one inside it. */
async function loadFromGguf(path: string): Promise<Tokenizer> {
  const beside = tokenizerBeside(path)
  if (beside !== null) return loadTokenizer(beside)
  const made = ggufTokenizer(await readGguf(path))
  const fingerprint = createHash('sha256').update(made.json).digest('hex')
  try {
    const implementation = await makeLibraryTokenizer(JSON.parse(made.json))
    const config = new Checker(made.config, path, 'CHECKPOINT_INVALID')
    const special = specialTokens(config, [], implementation.get_vocab(true))
    const source = { path, fingerprint, json: made.json, ...special }
    return new HuggingFaceTokenizer(source, implementation, () => ggufTokenizerFiles(made))
  } catch (error) {
    if (error instanceof MorError) throw error
    throw new MorError('CHECKPOINT_INVALID', `cannot make a tokenizer of ${path}: ${(error as Error).message}`)
  }
}

async function tokenizerPath(folderOrFile: string): Promise<string> {
  const kind = await stat(folderOrFile).catch(() => null)
  if (kind === null) {
    throw new MorError('CHECKPOINT_MISSING', `there is no tokenizer at ${folderOrFile}: no such file or folder`)
  }
  if (kind.isDirectory()) await finishSave(folderOrFile)
  const path = kind.isDirectory() ? join(folderOrFile, 'tokenizer.json') : folderOrFile
  if (kind.isFile() || (await stat(path).catch(() => null))?.isFile()) return path
  throw missing(path)
}

/** Says how a model without a tokenizer gets one: most were made without, or with one of another kind of file. */
function missing(path: string): MorError {
  const sentencePiece = join(dirname(path), 'tokenizer.model')
  const other = existsSync(sentencePiece)
    ? `${sentencePiece} is not read: make a tokenizer.json of it with Hugging Face's AutoTokenizer and save_pretrained`
    : "save the model's tokenizer there (Model.create with the option tokenizer, or tokenizer.save), or name one: a tokenizer.json, " +
      'a folder that holds one, or byte-level'
  return new MorError('CHECKPOINT_MISSING', `there is no tokenizer at ${path}: ${other}`)
}
