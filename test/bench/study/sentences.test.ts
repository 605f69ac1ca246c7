import { expect, it } from 'vitest'
import { pick, sentencesOf, spread } from '../../../bench/study/sentences.js'

it('cuts a text into sentences, on one line each, and leaves out short ones', () => {
  const text =
    'He asked\nMr. Brown to come in. “Are you there at all?” No. “I am,” said he.  “Come in!” Then he went up.'
  expect(sentencesOf(text)).toEqual([
    'He asked Mr. Brown to come in.',
    '“Are you there at all?”',
    '“I am,” said he.',
    'Then he went up.',
  ])
})

it('chooses as many, evenly', () => {
  expect(spread([0, 1, 2, 3, 4, 5], 3)).toEqual([0, 2, 4])
  expect(spread([0, 1], 3)).toEqual([0, 1])
})

it('picks by the text, each candidate of a few at some time', () => {
  const picked = Array.from({ length: 50 }, (_, i) => pick(['a', 'b', 'c'], `sentence ${i}`))
  expect(Array.from({ length: 50 }, (_, i) => pick(['a', 'b', 'c'], `sentence ${i}`))).toEqual(picked)
  expect(new Set(picked)).toEqual(new Set(['a', 'b', 'c']))
  expect(pick([], 'sentence')).toBeNull()
})
