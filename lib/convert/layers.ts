// Which layers of a vanilla model each layer of a recursive one is made of (docs/model.md section 10).
import { show } from '../check.js'
import { type ResolvedConfig, unsharedLayers } from '../config.js'
import { MorError } from '../errors.js'
import { layerMap, sharedLayers, uniqueLayers } from '../layer_map.js'

export const initialisations = ['stepwise', 'average', 'lower', 'upper'] as const
/** How the layers of the shared block are taken from those of the source. */
export type Initialisation = (typeof initialisations)[number]

/**
 * For every unique layer of `target` the layers of the source whose mean it starts as; mostly one.
 * @param depth layers of the source
 */
export function sourceLayers(depth: number, target: ResolvedConfig, init: Initialisation): number[][] {
  if (target.num_recursions === 1) return eachOfItself(depth, target)
  const edge = unsharedLayers(target.sharing) / 2
  const block = sharedLayers(target)
  const inner = depth - 2 * edge
  if (inner < block) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `the source has ${inner} layers${edge > 0 ? ' between its first and its last' : ''}, fewer than the ${block} of the shared block: ` +
        'give a smaller depth, or more recursions',
    )
  }
  const ofBlock: Record<Exclude<Initialisation, 'average'>, (i: number) => number> = {
    stepwise: (i) => (block === 1 ? 0 : Math.round((i * (inner - 1)) / (block - 1))),
    lower: (i) => i,
    upper: (i) => inner - block + i,
  }
  const layers =
    init === 'average' ? averaged(inner, target) : Array.from({ length: block }, (_, i) => [edge + ofBlock[init](i)])
  return edge === 0 ? layers : [[0], ...layers, [depth - 1]]
}

/**
 * As `sourceLayers`, with the layer given for every unique one.
 * @throws {MorError} INVALID_ARGUMENT
 */
export function keptLayers(depth: number, target: ResolvedConfig, keep: readonly number[]): number[][] {
  const unique = uniqueLayers(target)
  const isLayer = (layer: number) => Number.isInteger(layer) && layer >= 0 && layer < depth
  if (keep.length !== unique || ![...keep].every(isLayer)) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `keep is ${show(keep)}; it must be ${unique} layers of the source, numbers from 0 to ${depth - 1}, one for each layer that the ` +
        'new model stores, first to last',
    )
  }
  return keep.map((layer) => [layer])
}

function eachOfItself(depth: number, target: ResolvedConfig): number[][] {
  if (target.num_hidden_layers === depth) return Array.from({ length: depth }, (_, layer) => [layer])
  throw new MorError(
    'INVALID_ARGUMENT',
    `layers is ${target.num_hidden_layers}, but the source has ${depth}, and a model without recursion keeps them all: say with keep ` +
      'which ones to take',
  )
}

/** Each layer of the block as the layers in whose places it runs. */
function averaged(inner: number, target: ResolvedConfig): number[][] {
  const edge = unsharedLayers(target.sharing) / 2
  const places = layerMap(target).filter((place) => place.recursion !== null)
  const layers = Array.from({ length: sharedLayers(target) }, () => new Set<number>())
  places.forEach(({ unique }, place) => {
    const source = Math.round((place * (inner - 1)) / (places.length - 1))
    layers[unique - edge]!.add(edge + source)
  })
  return layers.map((set) => [...set])
}
