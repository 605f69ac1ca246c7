// The points of a chart: from measurements, few enough to be drawn.

export interface Point {
  x: number
  y: number
}

/** Most points of a line. */
export const MOST_POINTS = 200

/**
 * Points for the measurements that have both values. More than `MOST_POINTS` are put together in groups of equal size, one after
 * another: each is the mean of its group, at the place of the last of them.
 */
export function pointsOf<T>(measurements: readonly T[], x: (of: T) => number, y: (of: T) => number): Point[] {
  const points = measurements
    .map((of) => ({ x: x(of), y: y(of) }))
    .filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y))
  const size = Math.ceil(points.length / MOST_POINTS)
  if (size <= 1) return points
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) => {
    const group = points.slice(i * size, (i + 1) * size)
    return { x: group.at(-1)!.x, y: group.reduce((sum, point) => sum + point.y, 0) / group.length }
  })
}

/**
 * How many tokens ran 0, 1, … N recursions.
 * @param histogram those that ran 1..N
 * @param all of them; without it, none ran no recursion
 */
export function tokensByDepth(histogram: readonly number[], all = total(histogram)): number[] {
  return [Math.max(0, all - total(histogram)), ...histogram]
}

/** Mean depth of tokens counted by depth 0..N; NaN without tokens. */
export function meanDepth(counts: readonly number[]): number {
  return counts.reduce((sum, count, depth) => sum + count * depth, 0) / total(counts)
}

/** Share of the tokens whose depth is `depth`; NaN without tokens. */
export function shareOfDepth(counts: readonly number[], depth: number): number {
  return (counts[depth] ?? 0) / total(counts)
}

function total(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0)
}
