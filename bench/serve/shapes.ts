// The models of the serve bench: the 135M shape, plain, recursive and as Mixtures-of-Recursions, and the most that depth can
// save.

import { type ModelConfig, resolveConfig } from '../../lib/config.js'
import type { EngineStats } from '../../lib/index.js'
import { sharedLayers, uniqueLayers } from '../../lib/layer_map.js'
import { kvBytesPerToken, parameterCount } from '../../lib/model_size.js'
import { presets } from '../../lib/presets.js'

export const models = {
  vanilla: presets['135M'],
  recursive2: presets['135M-recursive-2'],
  recursive3: presets['135M-recursive-3'],
  recursive4: presets['135M-recursive-4'],
  mor2: presets['135M-mor-2'],
  mor3: presets['135M-mor-3'],
  mor4: presets['135M-mor-4'],
} as const

export type ModelName = keyof typeof models
export const modelNames = Object.keys(models) as ModelName[]

export const vanillaKvBytesPerToken = kvBytesPerToken(resolveConfig(models.vanilla), 'bfloat16')

/** Mean recursions of the tokens that ran any. */
export function meanDepth({ depthHistogram }: EngineStats): number {
  const tokens = depthHistogram.reduce((sum, count) => sum + count, 0)
  return recursionsRun(depthHistogram) / tokens
}

function recursionsRun(depthHistogram: readonly number[]): number {
  return depthHistogram.reduce((sum, count, r) => sum + count * (r + 1), 0)
}

/** The work of a run, counted in passes of one token through one layer. */
export interface Work {
  /** Tokens that went through the model, which the last generated token of a request does not. */
  tokens: number
  layerPasses: number
  /** The layer passes of the vanilla model on the same tokens. */
  vanillaLayerPasses: number
  /** The output projection of every generated token in the same unit, by its number of parameters. */
  head: number
}

export function workOf(name: ModelName, stats: EngineStats): Work {
  return workOfModel(models[name], models.vanilla, stats)
}

/** @param vanilla the model without recursions of the same shape */
export function workOfModel(model: ModelConfig, vanilla: ModelConfig, stats: EngineStats): Work {
  const config = resolveConfig(model)
  const { layer, embedding } = parameterCount(config)
  const tokens = stats.promptTokens + stats.tokensGenerated - stats.finished
  const vanillaLayerPasses = tokens * vanilla.num_hidden_layers
  const head = (stats.tokensGenerated * embedding) / layer
  if (model === vanilla) return { tokens, layerPasses: vanillaLayerPasses, vanillaLayerPasses, head }
  const block = sharedLayers(config)
  const layerPasses = tokens * (uniqueLayers(config) - block) + recursionsRun(stats.depthHistogram) * block
  return { tokens, layerPasses, vanillaLayerPasses, head }
}

/** The speed-up over vanilla if time depended only on the layers and the head, at equal rows in a pass. */
export function idealSpeedUp({ layerPasses, vanillaLayerPasses, head }: Work): number {
  return (vanillaLayerPasses + head) / (layerPasses + head)
}
