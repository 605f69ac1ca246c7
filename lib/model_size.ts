// How large a model is and what a token costs: parameters, KV bytes, FLOPs, from the configuration alone.
// Must not know of devices: these are counts, not measurements.
import type { ResolvedConfig } from './config.js'
import { sharedLayers, uniqueLayers } from './layer_map.js'
import type { DType } from './native.js'

export interface ParameterCount {
  embedding: number
  /** One layer: four attention projections, three feed-forward projections, two norms. */
  layer: number
  uniqueLayers: number
  /** All unique layers together. */
  layers: number
  finalNorm: number
  /** 0 when tied to the embedding. */
  outputProjection: number
  routers: number
  total: number
}

export function parameterCount(config: ResolvedConfig): ParameterCount {
  const { hidden_size: d, vocab_size: vocab } = config
  const unique = uniqueLayers(config)
  const layer = layerMatrices(config).total + 2 * d
  const parts = {
    embedding: vocab * d,
    layers: unique * layer,
    finalNorm: d,
    outputProjection: config.tie_word_embeddings ? 0 : vocab * d,
    routers: routerParameters(config),
  }
  const total = Object.values(parts).reduce((sum, part) => sum + part, 0)
  return { ...parts, layer, uniqueLayers: unique, total }
}

/** Share of a sequence's tokens that run each recursion; token-choice counts as evenly loaded. */
export function activeFractions(config: ResolvedConfig): number[] {
  const { num_recursions: recursions, router } = config
  if (router === null) return new Array<number>(recursions).fill(1)
  if (router.type === 'expert_choice' && router.capacities !== null) return [...router.capacities]
  return Array.from({ length: recursions }, (_, r) => (recursions - r) / recursions)
}

/**
 * Mean bytes of keys and values that one token of context holds, over all layers (docs/model.md section 5).
 * `recursion_wise` and `hybrid` keep an entry for every layer pass of a token, `shared` one for each unique layer.
 */
export function kvBytesPerToken(config: ResolvedConfig, dtype: DType): number {
  const bytesPerLayer = 2 * config.num_key_value_heads * config.head_dim * (dtype === 'float32' ? 4 : 2)
  const block = sharedLayers(config)
  const unshared = uniqueLayers(config) - block
  const passes = config.kv_cache === 'shared' ? 1 : sum(activeFractions(config))
  return bytesPerLayer * (unshared + block * passes)
}

export interface TokenFlops {
  /** Layers' matrix products. */
  layers: number
  /** Scores and weighted sums of attention, causal half. */
  attention: number
  router: number
  /** Output projection. */
  head: number
  /** Forward pass. */
  forward: number
  /** Forward and backward: three times forward. */
  training: number
}

/**
 * Mean floating-point operations per token of a sequence of `length` tokens, head included. A multiply-add counts as
 * two; attention counts the causal half, 2 * length * heads * head_dim per layer pass of every token. Norms, rotary
 * embedding and activations are left out.
 */
export function flopsPerToken(config: ResolvedConfig, length: number): TokenFlops {
  const { num_recursions: recursions, kv_cache: kvCache } = config
  const { total, keyValue } = layerMatrices(config)
  const attentionOfPass = 2 * length * config.num_attention_heads * config.head_dim
  const block = sharedLayers(config)
  const fractions = activeFractions(config)

  let layers = (uniqueLayers(config) - block) * 2 * total
  let attention = (uniqueLayers(config) - block) * attentionOfPass
  for (let r = 0; r < recursions; r++) {
    const active = fractions[r]!
    const reusesKeyValue = kvCache === 'shared' && r > 0
    const visible = kvCache === 'recursion_wise' ? active : 1
    layers += block * active * 2 * (reusesKeyValue ? total - keyValue : total)
    attention += block * active * visible * attentionOfPass
  }
  const router = routerFlops(config, fractions)
  const head = 2 * config.hidden_size * config.vocab_size
  const forward = layers + attention + router + head
  return { layers, attention, router, head, forward, training: 3 * forward }
}

/** Elements of one layer's matrices. */
function layerMatrices(config: ResolvedConfig): { total: number; keyValue: number } {
  const { hidden_size: d, head_dim: headDim } = config
  const queryOutput = 2 * d * config.num_attention_heads * headDim
  const keyValue = 2 * d * config.num_key_value_heads * headDim
  return { total: queryOutput + keyValue + 3 * d * config.intermediate_size, keyValue }
}

/** Elements of one router with `outputs` logits. */
function oneRouter(config: ResolvedConfig, outputs: number): number {
  const d = config.hidden_size
  return config.router?.architecture === 'mlp' ? 2 * d * d + outputs * 2 * d : outputs * d
}

function routerParameters(config: ResolvedConfig): number {
  const { num_recursions: recursions, router } = config
  if (router === null) return 0
  if (router.type === 'token_choice') return oneRouter(config, recursions)
  return recursions * oneRouter(config, 1) * (router.auxiliary_router ? 2 : 1)
}

/** A recursion's router scores every token that enters it, which is every token that ran the one before. */
function routerFlops(config: ResolvedConfig, fractions: number[]): number {
  const { num_recursions: recursions, router } = config
  if (router === null) return 0
  if (router.type === 'token_choice') return 2 * oneRouter(config, recursions)
  const entering = 1 + sum(fractions.slice(0, -1))
  return entering * 2 * oneRouter(config, 1) * (router.auxiliary_router ? 2 : 1)
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
