// Repeated keys at any depth are found, and nothing else is taken for one.
import { expect, it } from 'vitest'
import { repeatedKey } from '../../lib/json_keys.js'

it.each([
  ['{"a": 1, "b": 2}', null],
  ['{"a": 1, "a": 2}', 'a'],
  ['{"a": {"x": 1}, "b": {"x": 1}}', null],
  ['{"a": {"x": 1, "y": [], "x": 2}}', 'x'],
  ['{"a": ["a", "a"], "b": "a"}', null],
  ['{"a": [{"k": 1}, {"k": 1}]}', null],
  ['{"a": "}, \\"a\\": {", "b": 1}', null],
  ['{"a": "\\\\", "a": 1}', 'a'],
  ['{"\\u0061": 1, "a": 2}', 'a'],
  ['[]', null],
])('%s', (json, expected) => {
  expect(repeatedKey(json)).toBe(expected)
})

it('is found beside texts of any length', () => {
  const long = JSON.stringify('a\\"{:'.repeat(5_000_000))
  expect(repeatedKey(`{"x": ${long}, "y": [${long}], "x": 1}`)).toBe('x')
  expect(repeatedKey(`{"x": ${long}, ${long}: {"x": 2}}`)).toBeNull()
})
