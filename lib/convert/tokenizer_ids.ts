// Whether a model has an embedding for every id of the tokenizer that comes with its checkpoint.
import { join } from 'node:path'
import { show } from '../check.js'
import { MorError } from '../errors.js'
import { isGguf, readGguf } from '../gguf/reader.js'
import { ggufTokenizer, hasVocabulary, tokenizerBeside } from '../gguf/tokenizer.js'
import { parseJson, readTextFile } from '../json_file.js'
import { tokenizerFileName } from '../tokenizer/files.js'
import { type TokenId, tokenIds } from '../tokenizer/tables.js'

/**
 * Checks every token of the tokenizer.json that belongs to the checkpoint at `path`, added ones too: texts get those as soon as
 * somebody writes them. A checkpoint without that file has nothing to check.
 * @throws {MorError} CHECKPOINT_INVALID for an id that is not below `vocabSize`, and for a file that is no tokenizer
 */
export async function checkTokenizerIds(path: string, vocabSize: number): Promise<void> {
  const found = (await isGguf(path)) ? await ofGguf(path) : await ofFile(join(path, tokenizerFileName))
  if (found === null) return
  let last: TokenId = { token: '', id: -1, added: false }
  for (const each of found.ids) if (each.id > last.id) last = each
  if (last.id < vocabSize) return
  const kind = last.added ? 'added token' : 'token'
  throw new MorError(
    'CHECKPOINT_INVALID',
    `the ${kind} ${show(last.token)} of ${found.path} has the id ${last.id}, but vocab_size of the model is ${vocabSize}, so that ids ` +
      `end at ${vocabSize - 1}: give the model the tokenizer that it was trained with, or more rows to its embedding`,
  )
}

interface FoundIds {
  path: string
  ids: TokenId[]
}

async function ofFile(path: string): Promise<FoundIds | null> {
  const text = await readTextFile(path)
  return text === undefined ? null : { path, ids: tokenIds(parseJson(text, path), path) }
}

async function ofGguf(path: string): Promise<FoundIds | null> {
  const beside = tokenizerBeside(path)
  if (beside !== null) return ofFile(beside)
  const file = await readGguf(path)
  return hasVocabulary(file) ? { path, ids: tokenIds(JSON.parse(ggufTokenizer(file).json), path) } : null
}
