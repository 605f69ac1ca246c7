// Ready-made configurations: four sizes, each as vanilla, recursive and Mixture-of-Recursions (docs/model.md section
// 1).
import type { ModelConfig } from './config.js'

export const presetSizes = ['135M', '360M', '730M', '1.7B'] as const
export const presetRecursions = [2, 3, 4] as const

export type PresetSize = (typeof presetSizes)[number]
/** `360M` is vanilla; `360M-recursive-3` and `360M-mor-3` share one block over three recursions. */
export type PresetName = PresetSize | `${PresetSize}-${'recursive' | 'mor'}-${(typeof presetRecursions)[number]}`

/** The shapes of the SmolLM family that the paper trains; context 2048, head dimension 64, tied embedding. */
const vanilla: Record<PresetSize, ModelConfig> = {
  '135M': shape({ depth: 30, hidden: 576, heads: 9, keyValueHeads: 3, feedForward: 1536 }),
  '360M': shape({ depth: 32, hidden: 960, heads: 15, keyValueHeads: 5, feedForward: 2560 }),
  '730M': shape({ depth: 26, hidden: 1536, heads: 24, keyValueHeads: 8, feedForward: 4096 }),
  '1.7B': shape({ depth: 24, hidden: 2048, heads: 32, keyValueHeads: 32, feedForward: 8192 }),
}

/** Every preset by name; frozen, so that spreading one is how to change it: `{ ...presets['135M'], vocab_size: 256 }`. */
export const presets: Readonly<Record<PresetName, Readonly<ModelConfig>>> = Object.freeze(
  Object.fromEntries(presetSizes.flatMap(presetsOfSize).map(([name, config]) => [name, deepFreeze(config)])),
) as Readonly<Record<PresetName, Readonly<ModelConfig>>>

function presetsOfSize(size: PresetSize): [PresetName, ModelConfig][] {
  const base = vanilla[size]
  const others = presetRecursions.flatMap((recursions): [PresetName, ModelConfig][] => {
    const recursive: ModelConfig = {
      ...base,
      num_hidden_layers: middleCycleDepth(base.num_hidden_layers, recursions),
      num_recursions: recursions,
      sharing: 'middle_cycle',
      kv_cache: 'recursion_wise',
      router: null,
    }
    return [
      [`${size}-recursive-${recursions}`, recursive],
      [`${size}-mor-${recursions}`, { ...recursive, router: { type: 'expert_choice' } }],
    ]
  })
  return [[size, base], ...others]
}

/** The smallest depth, at least the vanilla one, that Middle-Cycle divides: (depth - 2) a multiple of N. */
function middleCycleDepth(depth: number, recursions: number): number {
  return Math.ceil((depth - 2) / recursions) * recursions + 2
}

function shape(size: {
  depth: number
  hidden: number
  heads: number
  keyValueHeads: number
  feedForward: number
}): ModelConfig {
  return {
    vocab_size: 49152,
    hidden_size: size.hidden,
    intermediate_size: size.feedForward,
    num_hidden_layers: size.depth,
    num_attention_heads: size.heads,
    num_key_value_heads: size.keyValueHeads,
    head_dim: 64,
    max_position_embeddings: 2048,
    rope_theta: 10000,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
    initializer_range: 0.02,
  }
}

function deepFreeze(config: ModelConfig): ModelConfig {
  if (config.router) Object.freeze(config.router)
  return Object.freeze(config)
}
