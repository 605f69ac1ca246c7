// Which words of a text run how many recursions.
import type { DeepToken } from './depth_map.js'

export interface WordDepth {
  /** In lower case. */
  word: string
  /** How often it occurs. */
  count: number
  /** Of its tokens, averaged over its occurrences. */
  meanDepth: number
}

const WORD = /\p{L}[\p{L}\p{M}\p{N}]*(?:['’-][\p{L}\p{M}\p{N}]+)*/gu

/**
 * The words of the text, the deepest first, equally deep ones by their number and then in the order of the text. Words that occur
 * once say little, so they are left out where others occur more often.
 */
export function wordDepths(tokens: readonly DeepToken[]): WordDepth[] {
  const text = tokens.map((token) => token.text).join('')
  const depths = depthsByPlace(tokens, text.length)
  const sums = new Map<string, { count: number; depth: number }>()
  for (const { 0: word, index } of text.matchAll(WORD)) {
    const of = depths.slice(index, index + word.length).flat()
    if (of.length === 0) continue
    const key = word.toLowerCase()
    const { count, depth } = sums.get(key) ?? { count: 0, depth: 0 }
    sums.set(key, { count: count + 1, depth: depth + mean(of) })
  }
  const words = Array.from(sums, ([word, { count, depth }]): WordDepth => ({ word, count, meanDepth: depth / count }))
  const repeated = words.filter(({ count }) => count > 1)
  return (repeated.length > 0 ? repeated : words).sort((a, b) => b.meanDepth - a.meanDepth || b.count - a.count)
}

/**
 * For each place in the text the depths of the tokens that end there: a token belongs to the word of its last character, since it
 * may begin with the space before the word. A token inside a character belongs to that character.
 */
function depthsByPlace(tokens: readonly DeepToken[], length: number): number[][] {
  const places = Array.from({ length }, (): number[] => [])
  let end = 0
  for (const { text, depth } of tokens) {
    end += text.length
    places[text === '' ? end : end - 1]?.push(depth)
  }
  return places
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
