// Reads and writes config.json of a checkpoint folder, this package's and Hugging Face's.
import { readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { architectureOf, modelTypesOf } from './architectures.js'
import type { JsonObject } from './check.js'
import { type ResolvedConfig, resolveConfig } from './config.js'
import { withoutUnknownKeys } from './config_keys.js'
import { ifGone, MorError } from './errors.js'
import { describeFileFormat } from './file_format.js'
import { readGenerationConfig, withGenerationConfig } from './generation_config.js'
import { readOptionalJsonFile } from './json_file.js'
import type { DType } from './native/model.js'
import { finishSave } from './unfinished_save.js'

export const configFileName = 'config.json'

export interface CheckpointConfig {
  config: ResolvedConfig
  /** The content of generation_config.json; {} where there is none. */
  generation: JsonObject
}

/**
 * The configuration of a checkpoint folder. Begin and end tokens of its generation_config.json count before those of its
 * config.json.
 * @throws {MorError} CHECKPOINT_MISSING without folder or file, CHECKPOINT_INVALID if a file is not JSON, INVALID_CONFIG if
 * its content breaks a rule.
 */
export async function readCheckpointConfig(folder: string): Promise<CheckpointConfig> {
  await checkFolder(folder)
  await finishSave(folder)
  const path = join(folder, configFileName)
  const file = await readOptionalJsonFile(path)
  if (file === undefined) return failForFolder(folder)
  const config = resolveConfigFile(file, path)
  const generation = await readGenerationConfig(folder)
  return { config: withGenerationConfig(config, file as JsonObject, generation, folder), generation }
}

/** As `readCheckpointConfig`, without the rest. */
export async function readConfigFile(folder: string): Promise<ResolvedConfig> {
  return (await readCheckpointConfig(folder)).config
}

/**
 * Fails for what is no checkpoint folder, whatever its config.json says.
 * @throws {MorError} CHECKPOINT_MISSING that says what the folder holds instead, CHECKPOINT_INVALID for a file, IO_ERROR
 */
export async function checkIsCheckpoint(folder: string): Promise<void> {
  await checkFolder(folder)
  await finishSave(folder)
  if ((await stat(join(folder, configFileName)).catch(ifGone(null))) === null) await failForFolder(folder)
}

/** What a folder without a config.json may hold instead, and what to do about it. */
const otherContents: [RegExp, (name: string) => string][] = [
  [/\.gguf$/i, (name) => `the folder holds ${name}: give that file itself`],
  [
    /^adapter_config\.json$/,
    () => 'the folder holds an adapter, which is no whole model: merge it into its base model',
  ],
  [/^run\.json$/, () => 'the folder is a run of mor train: give the folder "checkpoint" in it'],
  [/^snapshots$/, () => 'the folder holds a cache of Hugging Face: give one of the folders in its snapshots'],
]

async function failForFolder(folder: string): Promise<never> {
  const names = await readdir(folder).catch((): string[] => [])
  const reasons = otherContents.flatMap(([pattern, describe]) =>
    names.filter((name) => pattern.test(name)).map(describe),
  )
  const reason = reasons[0] ?? 'is this the folder of a checkpoint?'
  throw new MorError('CHECKPOINT_MISSING', `${join(folder, configFileName)} is missing: ${reason}`)
}

/**
 * Fails for a file in place of a checkpoint folder.
 * @throws {MorError} CHECKPOINT_INVALID that says what the file is
 */
export async function checkFolder(path: string): Promise<void> {
  if (!(await stat(path).catch(() => null))?.isFile()) return
  const advice = (await describeFileFormat(path)) ?? (await describeOtherFile(path))
  throw new MorError('CHECKPOINT_INVALID', `${path} ${advice}`)
}

async function describeOtherFile(path: string): Promise<string> {
  if (!/\.gguf$/i.test(path)) return `is a file: give the folder of the checkpoint, ${dirname(path)} perhaps`
  const { size } = await stat(path)
  return `is no GGUF file, which begins with "GGUF"; it has ${size} bytes: download or make it again`
}

/**
 * The configuration that the content of a config.json describes. Where `model_type` is one of Hugging Face's, a key left
 * out means what it means in Hugging Face's library, and an unknown key is warned of; elsewhere it is an error.
 * @throws {MorError} INVALID_CONFIG
 */
export function resolveConfigFile(content: unknown, path: string): ResolvedConfig {
  const file = content as JsonObject | null
  const architecture = architectureOf(file?.model_type)
  if (architecture === null) return resolveConfig(file, path)
  return resolveConfig({ ...architecture.defaults, ...withoutUnknownKeys(file!, path) }, path)
}

/** The content of config.json (docs/model.md section 9). `dtype` is that of the weights beside it. */
export function configFileContent(config: ResolvedConfig, dtype: DType | 'float16'): JsonObject {
  const { num_recursions, sharing, kv_cache, router, qkv_bias, qk_norm, ...shape } = config
  const model_type = modelTypesOf(config)[0]
  const architecture = architectureOf(model_type)
  if (architecture !== null) {
    const fixed = { hidden_act: 'silu', attention_bias: false, mlp_bias: false }
    return { architectures: [architecture.className], model_type, ...shape, ...fixed, torch_dtype: dtype }
  }
  const ours = { num_recursions, sharing, kv_cache, router: routerContent(router) }
  return { model_type, ...shape, qkv_bias, qk_norm, torch_dtype: dtype, ...ours }
}

/** Leaves out what is null: capacities that follow the integer rule, and the momentum where no threshold is kept. */
function routerContent(router: ResolvedConfig['router']): JsonObject | null {
  if (router === null) return null
  return Object.fromEntries(Object.entries(router).filter(([, value]) => value !== null))
}
