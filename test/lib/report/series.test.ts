// Points of charts: equal to the data while they are few, means of it when they are many.
import { expect, it } from 'vitest'
import { MOST_POINTS, meanDepth, pointsOf, shareOfDepth, tokensByDepth } from '../../../lib/report/series.js'

const identity = (value: number) => value

it('few points are the data, without what is no number', () => {
  const values = [1, 2, Number.NaN, 4]
  expect(pointsOf(values, identity, (value) => value * value)).toEqual([
    { x: 1, y: 1 },
    { x: 2, y: 4 },
    { x: 4, y: 16 },
  ])
  const most = Array.from({ length: MOST_POINTS }, (_, i) => i)
  expect(pointsOf(most, identity, identity)).toHaveLength(MOST_POINTS)
})

it('many points become means of groups, at the place of their last one', () => {
  const values = Array.from({ length: 2 * MOST_POINTS + 1 }, (_, i) => i)
  const points = pointsOf(values, identity, (value) => 10 * value)
  expect(points.length).toBeLessThanOrEqual(MOST_POINTS)
  expect(points[0]).toEqual({ x: 2, y: 10 })
  expect(points[1]).toEqual({ x: 5, y: 40 })
  // 401 values in groups of 3: the last one has 2.
  expect(points.at(-1)).toEqual({ x: 400, y: 3995 })
})

it('counts the tokens of which a histogram has none', () => {
  expect(tokensByDepth([1, 2], 5)).toEqual([2, 1, 2])
  expect(tokensByDepth([1, 2])).toEqual([0, 1, 2])
})

it('computes means and shares of depths', () => {
  expect(meanDepth([0, 1, 1, 2])).toBe(2.25)
  expect(meanDepth([4, 1, 1, 2])).toBe(1.125)
  expect(meanDepth([])).toBeNaN()
  expect(shareOfDepth([0, 1, 1, 2], 3)).toBe(0.5)
  expect(shareOfDepth([0, 4], 2)).toBe(0)
  expect(shareOfDepth([0, 0, 0], 1)).toBeNaN()
})
