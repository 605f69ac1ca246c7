// The factors by which llama3 scaling divides the frequencies of rotary embedding. GGUF stores them in place of the options.
import type { RopeScaling } from '../config_rope.js'

type Llama3 = Extract<RopeScaling, { rope_type: 'llama3' }>

/** [headDim / 2], one for each pair (docs/model.md section 1). */
export function ropeFactors(scaling: Llama3, theta: number, headDim: number): Float32Array {
  const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original } = scaling
  return Float32Array.from({ length: headDim / 2 }, (_, j) => {
    const turns = (original * theta ** ((-2 * j) / headDim)) / (2 * Math.PI)
    const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)))
    return 1 / (kept + (1 - kept) / factor)
  })
}

/** As Llama 3.1 and 3.2 have them. */
const usual = { low_freq_factor: 1, high_freq_factor: 4 }
const usualContexts = [8192, 2048, 4096, 16384, 32768]

/** The options that give these factors, or null where none do that are in use. Several may: they scale alike. */
export function scalingOf(factors: Float32Array, theta: number, headDim: number): RopeScaling | null {
  const factor = Number(factors.reduce((most, value) => Math.max(most, value), 0).toPrecision(6))
  const candidates = usualContexts.map(
    (context): Llama3 => ({ rope_type: 'llama3', factor, ...usual, original_max_position_embeddings: context }),
  )
  return candidates.find((scaling) => givesFactors(scaling, factors, theta, headDim)) ?? null
}

export function givesFactors(scaling: RopeScaling, factors: Float32Array, theta: number, headDim: number): boolean {
  if (scaling.rope_type !== 'llama3' || factors.length !== headDim / 2) return false
  const expected = ropeFactors(scaling, theta, headDim)
  return factors.every((value, j) => Math.abs(value - expected[j]!) <= 1e-4 * expected[j]!)
}
