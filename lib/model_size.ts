// How large a model is and what a token costs: parameters, KV bytes, FLOPs, from the configuration alone.
import type { ResolvedConfig } from './config.js'
import { toNativeConfig } from './config_native.js'
import { wrapNative } from './errors.js'
import { sharedLayers, uniqueLayers } from './layer_map.js'
import type { DType, NativeParameter } from './native/model.js'
import { loadNative } from './native_loader.js'

export interface ParameterCount {
  embedding: number
  /** One layer, norms and biases included. */
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

/**
 * Counts what gradients train: all tensors of the model but the bias of loss-free balancing and running thresholds.
 * @throws {MorError} what `devices()` throws; OUT_OF_MEMORY for a model that no memory holds
 */
export function parameterCount(config: ResolvedConfig): ParameterCount {
  const table = parameterTable(config)
  const parts = {
    embedding: elements(table, ({ role }) => role === 'embedding'),
    layers: elements(table, ({ layer }) => layer !== null),
    finalNorm: elements(table, ({ role, layer }) => role === 'norm' && layer === null),
    outputProjection: elements(table, ({ role, layer }) => role === 'projection' && layer === null),
    routers: elements(table, ({ role }) => role === 'router'),
  }
  const layer = elements(table, (tensor) => tensor.layer === 0)
  return { ...parts, layer, uniqueLayers: uniqueLayers(config), total: sum(Object.values(parts)) }
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
 * two; attention counts the causal half, 2 * length * heads * head_dim per layer pass of every token. Norms, biases,
 * rotary embedding and activations are left out.
 */
export function flopsPerToken(config: ResolvedConfig, length: number): TokenFlops {
  const { num_recursions: recursions, kv_cache: kvCache } = config
  const table = parameterTable(config)
  const matrices = table.filter(({ role, layer }) => role === 'projection' && layer === 0)
  const total = elements(matrices, () => true)
  const keyValue = elements(matrices, ({ name }) => /\.(k|v)_proj\./.test(name))
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
  const routers = elements(table, ({ role }) => role === 'router')
  const router = routerFlops(config, routers, fractions)
  const head = 2 * config.hidden_size * config.vocab_size
  const forward = layers + attention + router + head
  return { layers, attention, router, head, forward, training: 3 * forward }
}

/** Every tensor of the model. */
function parameterTable(config: ResolvedConfig): NativeParameter[] {
  return wrapNative(() => loadNative().parameterTable(toNativeConfig(config), 'float32'))
}

function elements(table: NativeParameter[], belongs: (tensor: NativeParameter) => boolean): number {
  return sum(table.filter(belongs).map(({ shape }) => shape.reduce((product, extent) => product * extent)))
}

/**
 * A recursion's router scores every token that enters it, which is every token that ran the one before; a router of depths
 * scores every token once.
 * @param parameters of all routers together
 */
function routerFlops({ num_recursions: recursions, router }: ResolvedConfig, parameters: number, fractions: number[]) {
  if (router === null) return 0
  if (router.type === 'token_choice') return 2 * parameters
  return (1 + sum(fractions.slice(0, -1))) * 2 * (parameters / recursions)
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
