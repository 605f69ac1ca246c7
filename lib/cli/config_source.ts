// Finds the model configuration that a command names: a preset, a JSON file, a checkpoint folder, or a GGUF file.
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Checker } from '../check.js'
import { type ResolvedConfig, resolveConfig } from '../config.js'
import { configFileName, readConfigFile, resolveConfigFile } from '../config_file.js'
import { MorError } from '../errors.js'
import { openGguf } from '../gguf/open.js'
import { isGguf } from '../gguf/reader.js'
import { readJsonFile } from '../json_file.js'
import { presets } from '../presets.js'
import { suggestion } from '../suggest.js'
import type { Tokenizer } from '../tokenizer.js'

/** The complete configuration of a preset, a JSON file, a checkpoint folder or a GGUF file. Errors as `resolveConfig`'s and `readConfigFile`'s. */
export async function findConfig(source: string): Promise<ResolvedConfig> {
  if (isPreset(source)) return resolveConfig(presets[source], source)
  const kind = await stat(source).catch(() => null)
  if (kind?.isDirectory()) return readConfigFile(source)
  if (kind === null) throw unknownSource(source)
  if (await isGguf(source)) return (await openGguf(source)).config
  return resolveConfigFile(await readJsonFile(source), source)
}

/**
 * The configuration of a new model for `tokenizer`. Begin and end ids and the vocabulary size come from the tokenizer if the
 * source has none; the vocabulary size of a preset is always replaced, since it belongs to another tokenizer.
 * Throws `INVALID_CONFIG` if the vocabulary is too small for the tokenizer, `INVALID_ARGUMENT` for a folder.
 */
export async function findNewConfig(source: string, tokenizer: Tokenizer): Promise<ResolvedConfig> {
  const fromTokenizer = {
    bos_token_id: tokenizer.bosTokenId,
    eos_token_id: tokenizer.eosTokenId,
    vocab_size: tokenizer.vocabSize,
  }
  if (isPreset(source)) return resolveConfig({ ...presets[source], ...fromTokenizer }, source)
  const kind = await stat(source).catch(() => null)
  if (kind === null) throw unknownSource(source)
  if (kind.isDirectory()) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `--config is the folder ${source}: give it as --from to start from its weights, or ` +
        `${join(source, configFileName)} for a new model of that shape; a run is continued with --resume and its folder as --output`,
    )
  }
  const file = Checker.of(await readJsonFile(source), source, 'INVALID_CONFIG').object
  if (typeof file.vocab_size === 'number' && file.vocab_size < tokenizer.minVocabSize) {
    throw new MorError(
      'INVALID_CONFIG',
      `${source}: vocab_size is ${file.vocab_size}, but the tokenizer ${tokenizer.name} has ${tokenizer.minVocabSize} ids: leave vocab_size out, or make it at least that`,
    )
  }
  return resolveConfigFile({ ...fromTokenizer, ...file }, source)
}

function isPreset(source: string): source is keyof typeof presets {
  return Object.hasOwn(presets, source)
}

function unknownSource(source: string): MorError {
  const names = Object.keys(presets)
  return new MorError(
    'INVALID_ARGUMENT',
    `${source} is neither a file, nor a folder, nor a preset${suggestion(source, names)}; the presets are ${names.join(', ')}`,
  )
}
