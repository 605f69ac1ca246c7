// Finds the begin and end tokens of a tokenizer.json, and whether texts get them: the file itself does not say all of it.
import { join } from 'node:path'
import { Checker, type JsonObject, show } from '../check.js'
import { readOptionalJsonObject } from '../json_file.js'

const BEGIN_NAMES = ['<s>', '<|begin_of_text|>', '<bos>']
const END_NAMES = ['<|endoftext|>', '</s>', '<|end_of_text|>', '<eos>']

export interface SpecialTokens {
  bosTokenId: number | null
  eosTokenId: number | null
  /** Whether a begin token comes before a text; null: as the post-processor of tokenizer.json has it. */
  addBosToken: boolean | null
  /** Whether an end token comes after a text; null: as the post-processor of tokenizer.json has it. */
  addEosToken: boolean | null
}

/**
 * Looks the tokens up in this order: `tokenizer_config.json` beside the file (`bos_token`, `eos_token`: a name, or an object
 * with `content`), `generation_config.json` and `config.json` (`bos_token_id`, `eos_token_id`: an id, or a list whose first
 * counts), the usual names. `add_bos_token` and `add_eos_token` are in `tokenizer_config.json`.
 * @throws {MorError} CHECKPOINT_INVALID for a file that is not JSON, for a name that the vocabulary lacks, and for a token that
 * is to be added and that no file names
 */
export async function findSpecialTokens(folder: string, vocabulary: Map<string, number>): Promise<SpecialTokens> {
  const read = async (name: string): Promise<Checker> => {
    const path = join(folder, name)
    return new Checker(await readOptionalJsonObject(path), path, 'CHECKPOINT_INVALID')
  }
  const modelConfigs = [await read('generation_config.json'), await read('config.json')]
  return specialTokens(await read('tokenizer_config.json'), modelConfigs, vocabulary)
}

/** As `findSpecialTokens`, of the contents of the files. */
export function specialTokens(
  tokenizerConfig: Checker,
  modelConfigs: readonly Checker[],
  vocabulary: Map<string, number>,
): SpecialTokens {
  const find = (kind: 'bos' | 'eos', usualNames: string[]): number | null => {
    const named = tokenizerConfig.object[`${kind}_token`]
    const name = typeof named === 'object' && named !== null ? (named as JsonObject).content : named
    if (typeof name === 'string' && name !== '') {
      const id = vocabulary.get(name)
      if (id !== undefined) {
        warnOfOther(kind, name, id, modelConfigs)
        return id
      }
      tokenizerConfig.fail(`${kind}_token is ${JSON.stringify(name)}, which tokenizer.json does not hold`)
    }
    for (const { object } of modelConfigs) {
      const listed = object[`${kind}_token_id`]
      const id = Array.isArray(listed) ? listed[0] : listed
      if (typeof id === 'number') return id
    }
    return usualNames.map((usual) => vocabulary.get(usual)).find((found) => found !== undefined) ?? null
  }
  const adds = (kind: 'bos' | 'eos', id: number | null): boolean | null => {
    const key = `add_${kind}_token`
    if (!tokenizerConfig.has(key)) return null
    const add = tokenizerConfig.boolean(key, false)
    if (add && id === null)
      tokenizerConfig.fail(`${key} is true, but no file names a ${kind}_token: name it, or set ${key} to false`)
    return add
  }

  const bosTokenId = find('bos', BEGIN_NAMES)
  const eosTokenId = find('eos', END_NAMES)
  return { bosTokenId, eosTokenId, addBosToken: adds('bos', bosTokenId), addEosToken: adds('eos', eosTokenId) }
}

/** Warns where the first of the configurations that names a token names another than the tokenizer's. */
function warnOfOther(kind: 'bos' | 'eos', name: string, id: number, configs: readonly Checker[]): void {
  const key = `${kind}_token_id`
  const config = configs.find((candidate) => candidate.has(key))
  if (config === undefined || [config.object[key]].flat().includes(id)) return
  const use = kind === 'bos' ? 'an empty prompt starts from the latter' : 'generation stops at the former'
  config.warn(
    `${key} is ${show(config.object[key])}, but tokenizer_config.json has ${kind}_token ${show(name)}, which is ${id}: ${use}`,
  )
}
