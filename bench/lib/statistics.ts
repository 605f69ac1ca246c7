// Statistics of repeated measurements.

export interface Summary {
  median: number
  min: number
  max: number
}

/** @throws {RangeError} if there is no value or one is not finite, which means that a measurement went wrong. */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0) throw new RangeError('cannot summarize 0 values')
  const wrong = values.find((value) => !Number.isFinite(value))
  if (wrong !== undefined) throw new RangeError(`cannot summarize ${wrong} among ${values.length} values`)
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
  return { median, min: sorted[0]!, max: sorted.at(-1)! }
}

/** The median alone. */
export function median(values: readonly number[]): number {
  return summarize(values).median
}

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length)
}
