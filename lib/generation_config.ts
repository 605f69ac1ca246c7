// generation_config.json of a checkpoint folder: the begin and end tokens in it count before those of config.json.
import { join } from 'node:path'
import { Checker, type JsonObject, show } from './check.js'
import { endTokenIds, type ResolvedConfig, tokenId } from './config.js'
import { readOptionalJsonObject } from './json_file.js'

export const generationConfigFileName = 'generation_config.json'

/** The content of the folder's generation_config.json; {} where there is none. */
export function readGenerationConfig(folder: string): Promise<JsonObject> {
  return readOptionalJsonObject(join(folder, generationConfigFileName))
}

/**
 * `config` with the begin and end tokens of a generation_config.json. Where config.json names others, a warning says so; it may
 * name some of several end tokens.
 * @param file the content of config.json
 * @throws {MorError} INVALID_CONFIG for an id that the model does not have
 */
export function withGenerationConfig(
  config: ResolvedConfig,
  file: JsonObject,
  generation: JsonObject,
  folder: string,
): ResolvedConfig {
  const check = new Checker(generation, join(folder, generationConfigFileName), 'INVALID_CONFIG')
  const { vocab_size } = config
  const bos_token_id = check.has('bos_token_id') ? tokenId(check, 'bos_token_id', vocab_size) : config.bos_token_id
  const eos_token_id = check.has('eos_token_id') ? endTokenIds(check, vocab_size) : config.eos_token_id
  const chosen = { bos_token_id, eos_token_id }
  for (const key of ['bos_token_id', 'eos_token_id'] as const) {
    const isAmong = [chosen[key]].flat()
    const left = [file[key] ?? []].flat().filter((id) => !isAmong.includes(id as number))
    if (left.length === 0) continue
    check.warn(`${key} is ${show(chosen[key])}, which counts, and ${show(file[key])} in config.json: make them equal`)
  }
  return { ...config, ...chosen }
}
