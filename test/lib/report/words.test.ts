// Depths of words, from those of their tokens.
import { expect, it } from 'vitest'
import { wordDepths } from '../../../lib/report/words.js'

const tokens = (...list: [text: string, depth: number][]) => list.map(([text, depth]) => ({ text, depth }))

it('takes the mean of the tokens of a word, and of its occurrences', () => {
  // "whale" once in two tokens of depths 1 and 3, once in one of depth 3: (2 + 3) / 2.
  const words = wordDepths(
    tokens(['The', 1], [' wh', 1], ['ale', 3], [' and', 2], [' the', 2], [' Whale', 3], ['.', 9]),
  )
  expect(words).toEqual([
    { word: 'whale', count: 2, meanDepth: 2.5 },
    { word: 'the', count: 2, meanDepth: 1.5 },
  ])
})

it('shows words that occur once where none occurs more often', () => {
  const words = wordDepths(tokens(['don', 3], ["'t", 1], [' go', 3], ['!', 1]))
  expect(words).toEqual([
    { word: 'go', count: 1, meanDepth: 3 },
    { word: "don't", count: 1, meanDepth: 2 },
  ])
})

it('counts the tokens inside a character', () => {
  // é in two tokens, and a letter of two units in four.
  const words = wordDepths(tokens(['', 1], ['é', 3], [' ', 9], ['', 1], ['', 1], ['', 1], ['𝒳', 3]))
  expect(words).toEqual([
    { word: 'é', count: 1, meanDepth: 2 },
    { word: '𝒳', count: 1, meanDepth: 1.5 },
  ])
})

it('has no words in a text without letters', () => {
  expect(wordDepths(tokens(['12 ', 1], ['—', 2]))).toEqual([])
})
