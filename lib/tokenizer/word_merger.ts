// Byte-pair encoding of short words: of all pairs of neighbours that can be merged, the one of the lowest rank is, and of several of that
// rank the first.
import type { Internals } from './library.js'

interface Merge {
  rank: number
  /** Of the token that the pair becomes. */
  id: number
}

export class WordMerger {
  readonly #tokens: ReadonlyMap<string, number>
  readonly #merges: ReadonlyMap<number, Merge>
  /** More than any id. */
  readonly #ids: number

  private constructor(tokens: ReadonlyMap<string, number>, merges: ReadonlyMap<number, Merge>, ids: number) {
    this.#tokens = tokens
    this.#merges = merges
    this.#ids = ids
  }

  /** Null for a vocabulary that lacks what merges give, or whose tokens have a mark at the ends of words. */
  static of(model: Internals['model']): WordMerger | null {
    if (model.end_of_word_suffix || model.continuing_subword_suffix) return null
    const idOf = (token: string) => model.tokens_to_ids.get(token)
    const ids = 1 + [...model.tokens_to_ids.values()].reduce((most, id) => Math.max(most, id), 0)
    const merges = new Map<number, Merge>()
    for (const [rank, [left, right]] of model.merges.entries()) {
      const [a, b, id] = [idOf(left), idOf(right), idOf(left + right)]
      if (a === undefined || b === undefined || id === undefined) return null
      merges.set(a * ids + b, { rank, id })
    }
    return new WordMerger(model.tokens_to_ids, merges, ids)
  }

  /** The ids of `word`; null if one of its characters is no token. The time grows with the square of its length. */
  merge(word: string): number[] | null {
    const ids: number[] = []
    for (const character of word) {
      const id = this.#tokens.get(character)
      if (id === undefined) return null
      ids.push(id)
    }
    // What each token and the one after it become.
    const merges = ids.map((_, i) => this.#mergeAt(ids, i))
    for (;;) {
      let first = -1
      let lowest = Number.POSITIVE_INFINITY
      for (let i = 0; i < merges.length; i++) {
        const rank = merges[i]?.rank ?? Number.POSITIVE_INFINITY
        if (rank >= lowest) continue
        lowest = rank
        first = i
      }
      if (first === -1) return ids
      ids.splice(first, 2, merges[first]!.id)
      merges.splice(first, 2, this.#mergeAt(ids, first))
      if (first > 0) merges[first - 1] = this.#mergeAt(ids, first - 1)
    }
  }

  #mergeAt(ids: readonly number[], i: number): Merge | undefined {
    return i + 1 < ids.length ? this.#merges.get(ids[i]! * this.#ids + ids[i + 1]!) : undefined
  }
}
