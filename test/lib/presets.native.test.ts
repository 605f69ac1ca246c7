// The presets and the counting functions against every figure of docs/model.md section 1.
// The expected figures are copied from there, not computed. The addon must have been built.
import { describe, expect, it } from 'vitest'
import { modelKind, resolveConfig } from '../../lib/config.js'
import { sharedLayers, uniqueLayers } from '../../lib/layer_map.js'
import { parameterCount } from '../../lib/model_size.js'
import { type PresetName, presetRecursions, presetSizes, presets } from '../../lib/presets.js'

describe('vanilla presets', () => {
  it.each([
    ['135M', 30, 576, 9, 3, 1536, 3_540_096, 134_515_008],
    ['360M', 32, 960, 15, 5, 2560, 9_832_320, 361_821_120],
    ['730M', 26, 1536, 24, 8, 4096, 25_168_896, 729_890_304],
    ['1.7B', 24, 2048, 32, 32, 8192, 67_112_960, 1_711_376_384],
  ] as const)('%s', (name, layers, hidden, heads, keyValueHeads, feedForward, perLayer, total) => {
    const config = resolveConfig(presets[name])
    expect(config).toMatchObject({
      num_hidden_layers: layers,
      hidden_size: hidden,
      num_attention_heads: heads,
      num_key_value_heads: keyValueHeads,
      intermediate_size: feedForward,
      head_dim: 64,
      vocab_size: 49152,
      max_position_embeddings: 2048,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      tie_word_embeddings: true,
      initializer_range: 0.02,
    })
    const count = parameterCount(config)
    expect(count.layer).toBe(perLayer)
    expect(count.total).toBe(total)
    expect(modelKind(config)).toBe('vanilla')
  })
})

describe('Middle-Cycle presets', () => {
  it.each([
    ['135M', 2, 14, 30],
    ['135M', 3, 10, 32],
    ['360M', 2, 15, 32],
    ['360M', 3, 10, 32],
    ['360M', 4, 8, 34],
    ['730M', 3, 8, 26],
    ['1.7B', 2, 11, 24],
    ['1.7B', 3, 8, 26],
  ] as const)('%s N=%i is 1 + %i + 1 layers of effective depth %i', (size, recursions, block, depth) => {
    for (const kind of ['recursive', 'mor'] as const) {
      const config = resolveConfig(presets[`${size}-${kind}-${recursions}`])
      expect(sharedLayers(config)).toBe(block)
      expect(uniqueLayers(config)).toBe(block + 2)
      expect(config.num_hidden_layers).toBe(depth)
      expect(config.sharing).toBe('middle_cycle')
      expect(modelKind(config)).toBe(kind)
    }
  })

  it('has unique non-embedding parameters as the paper reports for 360M (315M, 167M, 118M, 98M)', () => {
    const millions = (name: PresetName) => Math.round(parameterCount(resolveConfig(presets[name])).layers / 1e6)
    expect(millions('360M')).toBe(315)
    expect(millions('360M-recursive-2')).toBe(167)
    expect(millions('360M-recursive-3')).toBe(118)
    expect(millions('360M-recursive-4')).toBe(98)
  })

  it('adds one linear router of hidden_size weights per recursion', () => {
    const recursive = parameterCount(resolveConfig(presets['360M-recursive-3']))
    const mor = parameterCount(resolveConfig(presets['360M-mor-3']))
    expect(mor.total - recursive.total).toBe(3 * 960)
  })
})

it('offers every size in every kind, all valid and frozen', () => {
  expect(Object.keys(presets)).toHaveLength(presetSizes.length * (1 + 2 * presetRecursions.length))
  for (const [name, config] of Object.entries(presets)) {
    expect(() => resolveConfig(config, name)).not.toThrow()
    expect(Object.isFrozen(config)).toBe(true)
  }
})
