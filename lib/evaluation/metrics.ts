// Means over examples with their standard errors.

export interface Metric {
  value: number
  /** Of a mean over examples or documents; null where there are fewer than two. */
  standardError: number | null
}

/** The mean, with the sample deviation over the root of their number. */
export function meanOf(values: readonly number[]): Metric {
  return ratioOf(
    values,
    values.map(() => 1),
  )
}

/**
 * The sum of the values over the sum of the weights. Its standard error is that of the linearised ratio, with examples drawn
 * independently (Cochran, "Sampling Techniques", section 2.11, without the finite-population factor).
 */
export function ratioOf(values: readonly number[], weights: readonly number[]): Metric {
  const n = values.length
  const weight = weights.reduce((sum, w) => sum + w, 0)
  const value = values.reduce((sum, v) => sum + v, 0) / weight
  if (n < 2) return { value, standardError: null }
  const squares = values.reduce((sum, v, i) => sum + (v - value * weights[i]!) ** 2, 0)
  return { value, standardError: Math.sqrt((squares * n) / (n - 1)) / weight }
}

/** exp of it: the perplexity of a loss, with the error by the delta method. */
export function expOf({ value, standardError }: Metric): Metric {
  const exp = Math.exp(value)
  return { value: exp, standardError: standardError === null ? null : exp * standardError }
}

export function scaled({ value, standardError }: Metric, factor: number): Metric {
  return { value: value * factor, standardError: standardError === null ? null : standardError * factor }
}
