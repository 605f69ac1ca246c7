// The shuffled order: a permutation for every size; seeds and epochs give different ones; no position is favoured.
import { describe, expect, it } from 'vitest'
import { shuffledIndex } from '../../../lib/dataset/order.js'

const permutation = (n: number, seed = 0, epoch = 0) =>
  Array.from({ length: n }, (_, i) => shuffledIndex(i, n, seed, epoch))

describe('the shuffled order', () => {
  it.each([1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097])('visits each of %i things once', (n) => {
    expect(permutation(n).toSorted((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i))
  })

  it('depends on the seed, all 53 bits of it, and on the epoch', () => {
    const orders = [
      permutation(500),
      permutation(500, 1),
      permutation(500, 2 ** 40),
      permutation(500, -1),
      permutation(500, 0, 1),
    ]
    expect(new Set(orders.map(String)).size).toBe(orders.length)
    expect(permutation(500, 2 ** 40)).toEqual(orders[2])
  })

  it('works where indices pass 32 bits', () => {
    const n = 2 ** 40 + 7
    const values = Array.from({ length: 1000 }, (_, i) => shuffledIndex(n - 1 - i, n, 3, 0))
    expect(new Set(values).size).toBe(1000)
    for (const value of values) expect(value >= 0 && value < n && Number.isInteger(value)).toBe(true)
    expect(values.some((value) => value > 2 ** 39)).toBe(true)
  })

  it('sends each place everywhere, evenly: chi-squared of 16 places over 8000 seeds', () => {
    const n = 16
    const counts = Array.from({ length: n }, () => new Array<number>(n).fill(0))
    for (let seed = 0; seed < 8000; seed++) {
      for (const [from, to] of permutation(n, seed).entries()) counts[from]![to]!++
    }
    const expected = 8000 / n
    // 15 degrees of freedom: 50 is passed by chance with probability 1e-5 for each of the 16 rows.
    for (const row of counts)
      expect(row.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)).toBeLessThan(50)
  })

  it('keeps no structure of the index: the high halves of pairs differ in a new way', () => {
    const n = 4096
    const high = (index: number) => shuffledIndex(index, n, 11, 0) >> 6
    let kept = 0
    for (let low = 0; low < 64; low++) {
      for (let first = 0; first < 63; first++) {
        const change = first ^ (first + 1)
        if ((high(first * 64 + low) ^ high((first + 1) * 64 + low)) === change) kept++
      }
    }
    // One in 64 by chance, 63 of 4032.
    expect(kept).toBeLessThan(130)
  })

  it('leaves neighbours unrelated: the mean step is that of random order', () => {
    const order = permutation(10000, 7)
    const steps = order.slice(1).map((value, i) => Math.abs(value - order[i]!))
    const mean = steps.reduce((sum, step) => sum + step, 0) / steps.length
    expect(Math.abs(mean - 10000 / 3)).toBeLessThan(100)
  })
})
