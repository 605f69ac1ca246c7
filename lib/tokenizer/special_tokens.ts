// Finds the begin and end ids of a tokenizer.json, which does not name them itself.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MorError, toMorError } from '../errors.js'

const BEGIN_NAMES = ['<s>', '<|begin_of_text|>', '<bos>', '<|im_start|>']
const END_NAMES = ['<|endoftext|>', '</s>', '<|end_of_text|>', '<eos>']

export interface SpecialTokens {
  bosTokenId: number | null
  eosTokenId: number | null
}

/**
 * Looks them up in this order: `tokenizer_config.json` beside the file (`bos_token`, `eos_token`: a name, or an object with
 * `content`), `config.json` (`bos_token_id`, `eos_token_id`: an id, or a list whose first counts), the usual names.
 * Throws `CHECKPOINT_INVALID` where one of the two files names a token that the vocabulary lacks.
 */
export async function findSpecialTokens(folder: string, vocabulary: Map<string, number>): Promise<SpecialTokens> {
  const tokenizerConfig = await readJson(join(folder, 'tokenizer_config.json'))
  const modelConfig = await readJson(join(folder, 'config.json'))

  const find = (kind: 'bos' | 'eos', usualNames: string[]): number | null => {
    const named = tokenizerConfig?.[`${kind}_token`]
    const name = typeof named === 'object' && named !== null ? (named as { content?: unknown }).content : named
    if (typeof name === 'string') {
      const id = vocabulary.get(name)
      if (id !== undefined) return id
      throw new MorError(
        'CHECKPOINT_INVALID',
        `${join(folder, 'tokenizer_config.json')}: ${kind}_token is ${JSON.stringify(name)}, which tokenizer.json does not hold`,
      )
    }
    const listed = modelConfig?.[`${kind}_token_id`]
    const id = Array.isArray(listed) ? listed[0] : listed
    if (typeof id === 'number') return id
    return usualNames.map((usual) => vocabulary.get(usual)).find((found) => found !== undefined) ?? null
  }

  return { bosTokenId: find('bos', BEGIN_NAMES), eosTokenId: find('eos', END_NAMES) }
}

/** The object in a JSON file, or null where there is no such file. */
async function readJson(path: string): Promise<Record<string, unknown> | null> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw toMorError(error)
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new MorError('CHECKPOINT_INVALID', `${path} is not JSON: ${(error as Error).message}`)
  }
}
