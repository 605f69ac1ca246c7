// Tests of the benches' statistics.
import { describe, expect, test } from 'vitest'
import { median, summarize } from '../../bench/lib/statistics.js'

describe('summarize', () => {
  test('takes the middle of an odd number of values, in any order', () => {
    expect(summarize([9, 1, 5])).toEqual({ median: 5, min: 1, max: 9 })
  })

  test('takes the mean of the two middle ones of an even number', () => {
    expect(summarize([10, 2, 4, 1])).toEqual({ median: 3, min: 1, max: 10 })
  })

  test('orders by value, not as text, and leaves its input alone', () => {
    const values = [100, 20, 3]
    expect(median(values)).toBe(20)
    expect(values).toEqual([100, 20, 3])
  })

  test('one value is all three', () => {
    expect(summarize([7])).toEqual({ median: 7, min: 7, max: 7 })
  })

  test.each([[[]], [[1, Number.NaN]], [[Number.POSITIVE_INFINITY]]])('refuses %j', (values) => {
    expect(() => summarize(values)).toThrow(RangeError)
  })
})
