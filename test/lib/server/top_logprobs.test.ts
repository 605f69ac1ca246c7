// Names of the most likely tokens: none is lost, and the chosen one has its own text as name.
import { expect, it } from 'vitest'
import { topLogprobs } from '../../../lib/server/top_logprobs.js'
import { WindowDetokenizer } from '../../../lib/tokenizer/detokenizer.js'

/** Decodes words with a space between them, like some tokenizers: a word's text depends on its place. */
const words = ['', 'the', 'a', 'the', '__proto__', '7']
const decode = (ids: number[]) =>
  ids
    .map((id) => words[id]!)
    .filter(Boolean)
    .join(' ')

/** The tokens of `top` have the log-probabilities -1, -2, …; the chosen one has that of its place, or -9. */
function names(top: number[], chosen: number, text: string, context: number[]) {
  const detokenizer = new WindowDetokenizer({ decode, leftOut: () => null }, context)
  const listed = top.map((token, i) => ({ token, logprob: -1 - i, text: detokenizer.peek(token) }))
  const place = listed.find(({ token }) => token === chosen)
  return topLogprobs(listed, { token: chosen, logprob: place?.logprob ?? -9, text })
}

it('counts the chosen token once, in its place', () => {
  expect(Object.entries(names([1, 2], 1, ' the', [2]))).toEqual([
    [' the', -1],
    [' a', -2],
  ])
})

it('adds the chosen token where it is not among them', () => {
  expect(Object.entries(names([2], 1, ' the', [2]))).toEqual([
    [' a', -1],
    [' the', -9],
  ])
})

it('sees the place: at the start a word has no space before it', () => {
  expect(names([2, 1], 1, 'the', [])).toEqual({ a: -1, the: -2 })
})

it('gives a token without text, or with that of another, its id for a name', () => {
  expect(names([3, 0, 1], 2, ' a', [2])).toEqual({ ' the': -1, 'token_id:0': -2, 'token_id:1': -3, ' a': -9 })
  expect(names([3, 1], 1, ' the', [2])).toEqual({ 'token_id:3': -1, ' the': -2 })
  expect(names([1], 0, '', [2])).toEqual({ ' the': -1, '': -9 })
})

it('takes any text for a name', () => {
  expect(JSON.stringify(names([4, 5], 1, 'the', []))).toBe('{"7":-2,"__proto__":-1,"the":-9}')
})
