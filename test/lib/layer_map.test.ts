// The layer map against the examples of docs/model.md section 2.
import { expect, it } from 'vitest'
import { resolveConfig, type Sharing } from '../../lib/config.js'
import { layerMap, uniqueLayers } from '../../lib/layer_map.js'

function mapOf(sharing: Sharing, depth: number, recursions: number) {
  return layerMap(
    resolveConfig({
      vocab_size: 8,
      hidden_size: 8,
      intermediate_size: 8,
      num_attention_heads: 2,
      num_hidden_layers: depth,
      num_recursions: recursions,
      sharing,
    }),
  )
}

it.each<[Sharing, number, string, string]>([
  ['cycle', 9, '012012012', '000111222'],
  ['sequence', 9, '000111222', '012012012'],
  ['middle_cycle', 11, '01231231234', '-000111222-'],
  ['middle_sequence', 11, '01112223334', '-012012012-'],
])('%s', (sharing, depth, unique, recursions) => {
  const map = mapOf(sharing, depth, 3)
  expect(map.map((layer) => layer.unique).join('')).toBe(unique)
  expect(map.map((layer) => layer.recursion ?? '-').join('')).toBe(recursions)
})

it('is the identity without recursions', () => {
  for (const depth of [1, 2, 5]) {
    expect(mapOf('middle_cycle', depth, 1).map((layer) => layer.unique)).toEqual([...Array(depth).keys()])
  }
})

it('uses every unique layer', () => {
  for (const sharing of ['cycle', 'sequence', 'middle_cycle', 'middle_sequence'] as const) {
    const depth = sharing.startsWith('middle') ? 14 : 12
    const used = new Set(mapOf(sharing, depth, 4).map((layer) => layer.unique))
    const config = resolveConfig({
      vocab_size: 8,
      hidden_size: 8,
      intermediate_size: 8,
      num_attention_heads: 2,
      num_hidden_layers: depth,
      num_recursions: 4,
      sharing,
    })
    expect([...used]).toEqual([...Array(uniqueLayers(config)).keys()])
  }
})
