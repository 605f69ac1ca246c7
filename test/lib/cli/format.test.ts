// Numbers for people, around the values where the unit changes.
import { describe, expect, it } from 'vitest'
import { formatBytes, formatCount, formatDuration, formatShares } from '../../../lib/cli/format.js'

describe('format', () => {
  it.each([
    [0, '0'],
    [7, '7'],
    [0.1234, '0.123'],
    [999, '999'],
    [1000, '1K'],
    [1234567, '1.23M'],
    [999999, '1M'],
    [134515008, '135M'],
    [1711376384, '1.71G'],
    [2.5e15, '2.5P'],
  ])('count %s', (value, text) => expect(formatCount(value)).toBe(text))

  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 KiB'],
    [16896, '16.5 KiB'],
    [2 ** 30, '1 GiB'],
  ])('bytes %s', (value, text) => expect(formatBytes(value)).toBe(text))

  it.each([
    [0.4, '0s'],
    [59.4, '59s'],
    [59.6, '1m00s'],
    [192, '3m12s'],
    [3599.7, '1h00m'],
    [7500, '2h05m'],
  ])('duration %s', (value, text) => expect(formatDuration(value)).toBe(text))

  it('shares', () => {
    expect(formatShares([50, 25, 25], 100)).toBe('50/25/25%')
    expect(formatShares([50, 25, 25], 200)).toBe('25/13/13%')
    expect(formatShares([0, 0], 0)).toBe('0/0%')
  })
})
