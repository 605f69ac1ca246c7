// Dates as Python's strftime writes them; the expected values are its own.
import { expect, it } from 'vitest'
import { strftime } from '../../../lib/chat/strftime.js'

const date = new Date(2026, 1, 3, 14, 5, 9)

it.each([
  ['%a %A', 'Tue Tuesday'],
  ['%b %B', 'Feb February'],
  ['%d|%e|%-d|%-e', '03| 3|3|3'],
  ['%H %I %-H %-I %p', '14 02 14 2 PM'],
  ['%j %-j', '034 34'],
  ['%m %-m %M %-M %S', '02 2 05 5 09'],
  ['%y %Y', '26 2026'],
  ['100%% of %Q and %', '100% of %Q and %'],
  ['', ''],
])('%s', (format, expected) => {
  expect(strftime(date, format)).toBe(expected)
})

it('counts days over a change of the clock, and hours from twelve', () => {
  expect(strftime(new Date(2024, 11, 31, 0, 0), '%j %I %p')).toBe('366 12 AM')
  expect(strftime(new Date(2025, 6, 1, 12, 0), '%j %I %p')).toBe('182 12 PM')
})
