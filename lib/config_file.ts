// config.json of a checkpoint folder: reads ours and plain Hugging Face Llama's, writes one that both understand.
// Must not know the rules of a configuration (config does) or of weights.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { JsonObject } from './check.js'
import { modelKind, type ResolvedConfig, resolveConfig } from './config.js'
import { MorError, toMorError } from './errors.js'
import type { DType } from './native.js'

export const configFileName = 'config.json'

/** What Hugging Face's Llama means by a key that its file leaves out, where that differs from our default. */
const huggingFaceDefaults = { rms_norm_eps: 1e-6, tie_word_embeddings: false }

/**
 * @throws {MorError} CHECKPOINT_MISSING without folder or file, CHECKPOINT_INVALID if it is not JSON, INVALID_CONFIG if
 * its content breaks a rule.
 */
export async function readConfigFile(folder: string): Promise<ResolvedConfig> {
  const path = join(folder, configFileName)
  const file = await readJsonFile(path)
  const isLlama = (file as JsonObject | null)?.model_type === 'llama'
  return resolveConfig(isLlama ? { ...huggingFaceDefaults, ...(file as JsonObject) } : file, path)
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
  const { num_recursions, sharing, kv_cache, router, ...llama } = config
  if (modelKind(config) === 'vanilla') {
    const fixed = { hidden_act: 'silu', attention_bias: false, mlp_bias: false }
    return { architectures: ['LlamaForCausalLM'], model_type: 'llama', ...llama, ...fixed, torch_dtype: dtype }
  }
  return {
    model_type: 'mor',
    ...llama,
    torch_dtype: dtype,
    num_recursions,
    sharing,
    kv_cache,
    router: routerContent(router),
  }
}

/** Capacities that follow the integer rule are left out. */
function routerContent(router: ResolvedConfig['router']): JsonObject | null {
  if (router === null) return null
  return Object.fromEntries(Object.entries(router).filter(([key, value]) => key !== 'capacities' || value !== null))
}
