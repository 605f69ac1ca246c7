// The rotary embedding's part of a configuration: base and scaling, in Hugging Face's older and newer form.
import type { Checker } from './check.js'
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
  default: [],
  linear: ['factor'],
  llama3: ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'],
} as const

/** Reads `rope_theta` and `rope_scaling`, or `rope_parameters`, which holds both. */
export function resolveRope(check: Checker): { rope_theta: number; rope_scaling: Readonly<RopeScaling> | null } {
  const scaling = check.has('rope_scaling') ? resolveScaling(check.child('rope_scaling')) : null
  if (!check.has('rope_parameters')) return { rope_theta: ropeTheta(check), rope_scaling: scaling }
  const parameters = check.child('rope_parameters')
  const rope_scaling = resolveScaling(parameters)
  if (scaling !== null && rope_scaling !== null)
    check.fail('rope_scaling and rope_parameters both scale: leave one out')
  const rope_theta = ropeTheta(parameters.has('rope_theta') ? parameters : check)
  if (check.has('rope_theta') && ropeTheta(check) !== rope_theta) {
    check.fail(`rope_theta is ${ropeTheta(check)} and rope_parameters.rope_theta is ${rope_theta}; make them equal`)
  }
  return { rope_theta, rope_scaling: scaling ?? rope_scaling }
}

function ropeTheta(check: Checker): number {
  return check.number('rope_theta', { above: 0, fallback: 10000 })
}

function resolveScaling(check: Checker): RopeScaling | null {
  const kinds = Object.keys(scalingKeys) as (keyof typeof scalingKeys)[]
  const rope_type = check.choice(check.has('rope_type') ? 'rope_type' : 'type', kinds, 'default')
  check.onlyKeys(['rope_type', 'type', 'rope_theta', 'partial_rotary_factor', ...scalingKeys[rope_type]])
  checkSupported(check)
  if (rope_type === 'default') return null
  const factor = check.number('factor', { min: 1 })
  if (rope_type === 'linear') return { rope_type, factor }
  const low_freq_factor = check.number('low_freq_factor', { above: 0 })
  return {
    rope_type,
    factor,
    low_freq_factor,
    high_freq_factor: check.number('high_freq_factor', { above: low_freq_factor }),
    original_max_position_embeddings: check.integer('original_max_position_embeddings', { min: 1 }),
  }
}
