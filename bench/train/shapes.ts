// The two models of the training bench: the same Llama of depth 11, plain and as a Mixture-of-Recursions of about 10M
// parameters (1 + 3 + 1 unique layers, N = 3).
import { type ModelConfig, resolveConfig } from '../../lib/config.js'
import { flopsPerToken, parameterCount } from '../../lib/model_size.js'

/** Tokens of a sequence. */
export const length = 512

const vanilla: ModelConfig = {
  vocab_size: 8192,
  hidden_size: 384,
  intermediate_size: 1024,
  num_hidden_layers: 11,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  head_dim: 64,
  max_position_embeddings: length,
}

/** Selected as by the authors, whose code is the rival. */
export const models = {
  vanilla,
  mor: { ...vanilla, num_recursions: 3, router: { type: 'expert_choice', selection: 'topk' } },
} as const satisfies Record<string, ModelConfig>

export type ModelName = keyof typeof models
export const modelNames = Object.keys(models) as ModelName[]

/** Executed floating-point operations of training on one token, head included: three times forward. */
export function trainingFlops(name: ModelName): number {
  return flopsPerToken(resolveConfig(models[name]), length).training
}

export function parameters(name: ModelName): number {
  return parameterCount(resolveConfig(models[name])).total
}
