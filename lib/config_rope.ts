// The rotary embedding's part of a configuration: base and scaling, in Hugging Face's older and newer form.
import { isDeepStrictEqual } from 'node:util'
import { type Checker, show } from './check.js'
import { checkSupported } from './config_keys.js'

/** How the frequencies of rotary embedding differ from rope_theta^(-2i / head_dim), so that a longer context fits. */
export type RopeScaling =
  | {
      /** Every frequency is divided by `factor`. */
      rope_type: 'linear'
      /** At least 1. */
      factor: number
    }
  | {
      /**
       * As in Llama 3.1: a frequency whose wavelength is above original_max_position_embeddings / low_freq_factor is divided
       * by `factor`, one whose wavelength is below original_max_position_embeddings / high_freq_factor is kept, and those
       * between are interpolated (docs/model.md section 1).
       */
      rope_type: 'llama3'
      /** At least 1. */
      factor: number
      low_freq_factor: number
      /** Above low_freq_factor. */
      high_freq_factor: number
      /** Context length in tokens that the model was trained with first. */
      original_max_position_embeddings: number
    }

const scalingKeys = {
  default: ['factor'],
  linear: ['factor'],
  llama3: ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'],
} as const

/** One of the keys that may say how rotary embedding is scaled, and what it says. */
interface RopeSource {
  key: 'rope_scaling' | 'rope_parameters'
  scaling: RopeScaling | null
  theta: number | null
}

/**
 * Reads `rope_theta` and `rope_scaling`, the older form, and `rope_parameters`, which holds both in newer files. What is said
 * twice must be the same.
 */
export function resolveRope(check: Checker): { rope_theta: number; rope_scaling: Readonly<RopeScaling> | null } {
  const sources = (['rope_scaling', 'rope_parameters'] as const).filter((key) => check.has(key)).map(readSource)
  let theta = check.has('rope_theta') ? { key: 'rope_theta', value: ropeTheta(check) } : null
  for (const { key, theta: value } of sources) {
    if (value === null) continue
    if (theta !== null && theta.value !== value) {
      check.fail(`${theta.key} is ${theta.value} and ${key}.rope_theta is ${value}; make them equal`)
    }
    theta = { key: `${key}.rope_theta`, value }
  }
  const [first, second] = sources
  if (second !== undefined && !isDeepStrictEqual(first!.scaling, second.scaling)) {
    const [one, other] = [show(first!.scaling), show(second.scaling)]
    check.fail(`${first!.key} scales by ${one} and ${second.key} by ${other}; make them equal, or leave one out`)
  }
  return { rope_theta: theta?.value ?? 10000, rope_scaling: first?.scaling ?? null }

  function readSource(key: RopeSource['key']): RopeSource {
    const child = check.child(key)
    return { key, scaling: resolveScaling(child), theta: child.has('rope_theta') ? ropeTheta(child) : null }
  }
}

function ropeTheta(check: Checker): number {
  return check.float32('rope_theta', { above: 0 })
}

function resolveScaling(said: Checker): RopeScaling | null {
  // A value of null asks for nothing.
  const check = said.without((value) => value === null)
  const kinds = Object.keys(scalingKeys) as (keyof typeof scalingKeys)[]
  const rope_type = check.choice(check.has('rope_type') ? 'rope_type' : 'type', kinds, 'default')
  if (check.has('type') && check.object.type !== rope_type) {
    check.fail(
      `rope_type is ${show(rope_type)} and type is ${show(check.object.type)}; make them equal, or leave type out`,
    )
  }
  check.onlyKeys(['rope_type', 'type', 'rope_theta', 'partial_rotary_factor', ...scalingKeys[rope_type]])
  checkSupported(check)
  if (rope_type === 'default') {
    if (check.has('factor') && check.object.factor !== 1) {
      check.fail(
        `"factor" is ${show(check.object.factor)}, but rope_type "default" does not scale: leave one of them out`,
      )
    }
    return null
  }
  const factor = check.float32('factor', { min: 1 })
  if (rope_type === 'linear') return { rope_type, factor }
  const low_freq_factor = check.float32('low_freq_factor', { above: 0 })
  return {
    rope_type,
    factor,
    low_freq_factor,
    high_freq_factor: check.float32('high_freq_factor', { above: low_freq_factor }),
    original_max_position_embeddings: check.integer('original_max_position_embeddings', { min: 1 }),
  }
}
