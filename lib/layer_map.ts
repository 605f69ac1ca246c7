// Which unique layer runs at each effective depth (docs/model.md section 2; paper, section 2.1).
import { blockRecurs, type ResolvedConfig, unsharedLayers } from './config.js'

export interface EffectiveLayer {
  /** Index of the layer whose weights run here: the `u` of `model.layers.{u}`. */
  unique: number
  /** The recursion 0..N-1 that this pass belongs to; null for the unshared first and last layer. */
  recursion: number | null
}

/** Layers of the shared block, b: each recursion runs all of them once. */
export function sharedLayers(config: ResolvedConfig): number {
  return (config.num_hidden_layers - unsharedLayers(config.sharing)) / config.num_recursions
}

/** Layers with weights of their own. */
export function uniqueLayers(config: ResolvedConfig): number {
  return sharedLayers(config) + unsharedLayers(config.sharing)
}

/** One entry per effective layer, from the embedding to the head. */
export function layerMap(config: ResolvedConfig): EffectiveLayer[] {
  const { num_hidden_layers: depth, num_recursions: recursions, sharing } = config
  const block = sharedLayers(config)
  const first = unsharedLayers(sharing) / 2
  return Array.from({ length: depth }, (_, layer) => {
    const inner = layer - first
    if (inner < 0) return { unique: 0, recursion: null }
    if (inner >= block * recursions) return { unique: block + 1, recursion: null }
    return blockRecurs(sharing)
      ? { unique: first + (inner % block), recursion: Math.floor(inner / block) }
      : { unique: first + Math.floor(inner / recursions), recursion: inner % recursions }
  })
}
