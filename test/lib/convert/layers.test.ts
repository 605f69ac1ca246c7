// Which layers of the source the block of a recursive model is made of, as written out by hand.
import { describe, expect, it } from 'vitest'
import { type ModelConfig, resolveConfig } from '../../../lib/config.js'
import { type Initialisation, keptLayers, sourceLayers } from '../../../lib/convert/layers.js'

function target(num_hidden_layers: number, num_recursions: number, sharing: ModelConfig['sharing']) {
  const shape = { vocab_size: 8, hidden_size: 8, intermediate_size: 8, num_attention_heads: 2 }
  return resolveConfig({ ...shape, num_hidden_layers, num_recursions, sharing })
}

/** The layers of each one; `2+5` is their mean. */
const made = (depth: number, config: ReturnType<typeof target>, init: Initialisation) =>
  sourceLayers(depth, config, init)
    .map((layers) => layers.join('+'))
    .join(' ')

describe('layers of the source', () => {
  it.each<[number, number, ModelConfig['sharing'], Initialisation, string]>([
    [12, 2, 'cycle', 'stepwise', '0 2 4 7 9 11'],
    [12, 3, 'cycle', 'stepwise', '0 4 7 11'],
    [12, 4, 'cycle', 'stepwise', '0 6 11'],
    [12, 12, 'cycle', 'stepwise', '0'],
    [12, 2, 'cycle', 'lower', '0 1 2 3 4 5'],
    [12, 3, 'cycle', 'upper', '8 9 10 11'],
    [12, 3, 'cycle', 'average', '0+4+8 1+5+9 2+6+10 3+7+11'],
    [12, 3, 'sequence', 'average', '0+1+2 3+4+5 6+7+8 9+10+11'],
    [12, 2, 'sequence', 'stepwise', '0 2 4 7 9 11'],
    [14, 2, 'middle_cycle', 'stepwise', '0 1 3 5 8 10 12 13'],
    [14, 3, 'middle_cycle', 'lower', '0 1 2 3 4 13'],
    [14, 4, 'middle_cycle', 'upper', '0 10 11 12 13'],
    [14, 4, 'middle_cycle', 'average', '0 1+4+7+10 2+5+8+11 3+6+9+12 13'],
    [14, 3, 'middle_sequence', 'average', '0 1+2+3 4+5+6 7+8+9 10+11+12 13'],
    [5, 1, 'cycle', 'upper', '0 1 2 3 4'],
  ])('%i layers, N = %i, %s, %s: %s', (depth, recursions, sharing, init, expected) => {
    expect(made(depth, target(depth, recursions, sharing), init)).toBe(expected)
  })

  it('of a model that is deeper or shallower than its source', () => {
    // The 32 layers of SmolLM-360M as the 34 of the paper's model with four recursions.
    expect(made(32, target(34, 4, 'middle_cycle'), 'upper')).toBe('0 23 24 25 26 27 28 29 30 31')
    expect(made(32, target(34, 4, 'middle_cycle'), 'stepwise')).toBe('0 1 5 9 13 18 22 26 30 31')
    expect(made(6, target(10, 4, 'middle_cycle'), 'average')).toBe('0 1+2+3+4 1+2+3+4 5')
    expect(made(14, target(8, 3, 'middle_cycle'), 'average')).toBe('0 1+5+10 3+8+12 13')
  })

  it('that are too few are an error', () => {
    expect(() => sourceLayers(4, target(10, 2, 'middle_cycle'), 'upper')).toThrow(
      /source has 2 layers between its first and its last, fewer than the 4 of the shared block/,
    )
    expect(() => sourceLayers(12, target(10, 1, 'cycle'), 'upper')).toThrow(/layers is 10, but the source has 12/)
  })

  it('may be given, one for each that is stored', () => {
    expect(keptLayers(14, target(14, 3, 'middle_cycle'), [0, 2, 5, 8, 11, 13])).toEqual([
      [0],
      [2],
      [5],
      [8],
      [11],
      [13],
    ])
    for (const keep of [
      [0, 2, 5],
      [0, 2, 5, 8, 11, 14],
      [0, 2, 5, 8, -1, 13],
      [0, 2, 5, 8, 1.5, 13],
      [0, 2, 5, 8, undefined as unknown as number, 13],
    ]) {
      expect(() => keptLayers(14, target(14, 3, 'middle_cycle'), keep)).toThrow(
        /it must be 6 layers of the source, numbers from 0 to 13/,
      )
    }
  })
})
