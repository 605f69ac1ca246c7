// Reads and writes config.json of a checkpoint folder, this package's and Hugging Face's.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { architectureOf, modelTypesOf } from './architectures.js'
import type { JsonObject } from './check.js'
import { type ResolvedConfig, resolveConfig } from './config.js'
import { withoutUnknownKeys } from './config_keys.js'
import { MorError, toMorError } from './errors.js'
import type { DType } from './native.js'

export const configFileName = 'config.json'

/**
 * The configuration of a checkpoint folder.
 * @throws {MorError} CHECKPOINT_MISSING without folder or file, CHECKPOINT_INVALID if it is not JSON, INVALID_CONFIG if
 * its content breaks a rule.
 */
export async function readConfigFile(folder: string): Promise<ResolvedConfig> {
  const path = join(folder, configFileName)
  return resolveConfigFile(await readJsonFile(path), path)
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

/** Reads a JSON file of a checkpoint. */
export async function readJsonFile(path: string): Promise<unknown> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' && (error as NodeJS.ErrnoException).code !== 'ENOTDIR') {
      throw toMorError(error)
    }
    throw new MorError('CHECKPOINT_MISSING', `${path} is missing: is this the folder of a checkpoint?`, {
      cause: error,
    })
  }
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new MorError('CHECKPOINT_INVALID', `${path} is not JSON: ${(cause as Error).message}`, { cause })
  }
}

/** The content of config.json (docs/model.md section 9). `dtype` is that of the weights beside it. */
export function configFileContent(config: ResolvedConfig, dtype: DType): JsonObject {
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

/** Leaves out capacities that are null: they follow the integer rule. */
function routerContent(router: ResolvedConfig['router']): JsonObject | null {
  if (router === null) return null
  return Object.fromEntries(Object.entries(router).filter(([key, value]) => key !== 'capacities' || value !== null))
}
