// What the generation bench runs: the 135M shape, plain and as a Mixture-of-Recursions, and the bytes one token must
// read.
import { resolveConfig } from '../../lib/config.js'
import { sharedLayers, uniqueLayers } from '../../lib/layer_map.js'
import { parameterCount } from '../../lib/model_size.js'
import { presets } from '../../lib/presets.js'

export const vanilla = presets['135M']
export const mor = presets['135M-mor-3']

export const promptTokens = 16
export const generatedTokens = 128

const bytesPerElement = 2 // bfloat16, weights and cache

/**
 * Bytes that decoding one token must read when every token runs `depth` recursions on average: the weights of each layer
 * pass, the output projection, and the keys and values of the context at the middle of the generation. With
 * recursion-wise caches the context of a recursion is the tokens that ran it.
 */
export function bytesPerToken(model: typeof vanilla, depth: number): number {
  const config = resolveConfig(model)
  const count = parameterCount(config)
  const block = sharedLayers(config)
  const passes = uniqueLayers(config) - block + block * depth
  const context = promptTokens + generatedTokens / 2
  const keyValues = 2 * config.num_key_value_heads * config.head_dim * context
  return bytesPerElement * (passes * (count.layer + keyValues) + count.embedding + count.finalNorm)
}
