// How values are shown in messages, those too that JSON cannot show.
import { expect, it } from 'vitest'
import { show } from '../../lib/check.js'

it('shows any value, and never fails', () => {
  expect([3, NaN, 3n, 'a', null, undefined].map(show)).toEqual(['3', 'NaN', '3n', '"a"', 'null', 'undefined'])
  expect(show('x'.repeat(100))).toBe(`"${'x'.repeat(76)}...`)
  expect(show(JSON.parse('['.repeat(100_000) + ']'.repeat(100_000)))).toBe('an array')
  const circular: Record<string, unknown> = {}
  circular.itself = circular
  expect([circular, { count: 1n }].map(show)).toEqual(['an object', 'an object'])
})
