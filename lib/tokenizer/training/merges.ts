// Learns the merges of byte-level BPE (arXiv 1508.07909): again and again the pair of symbols that is most frequent becomes one symbol.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { throwIfAborted } from '../../errors.js'
import { PairQueue } from './pair_queue.js'

export interface Merge {
  left: number
  right: number
}

export interface MergeOptions {
  /** Symbols before the first merge; the symbol of merge i is `symbols + i`. */
  symbols: number
  /** Most merges. */
  merges: number
  /** Pairs that are rarer are not merged. */
  leastCount: number
  onProgress?: (merges: number) => void
  signal?: AbortSignal
}

/** A word, changed by each merge, and how often it comes. */
interface Word {
  symbols: number[]
  count: number
}

/** Milliseconds after which the event loop gets its turn. */
const TURN_MS = 10

/**
 * The merges in order. Of pairs that are equally frequent the one with the smaller left symbol comes first, then that with the
 * smaller right one. There are fewer than asked for where no pair comes `leastCount` times.
 * @param words the symbols of each different word, and how often it comes
 * @throws {MorError} ABORTED
 */
export async function learnMerges(
  words: Iterable<{ symbols: readonly number[]; count: number }>,
  { symbols, merges: most, leastCount, onProgress, signal }: MergeOptions,
): Promise<Merge[]> {
  const pairs = new Pairs(symbols + most)
  const turn = turnTaker(signal)
  for (const word of words) {
    pairs.addWord({ symbols: [...word.symbols], count: word.count })
    const wait = turn()
    if (wait) await wait
  }
  const merges: Merge[] = []
  while (merges.length < most) {
    const best = pairs.mostFrequent()
    if (best === null || best.count < leastCount) break
    const symbol = symbols + merges.length
    merges.push({ left: best.left, right: best.right })
    for (const word of pairs.wordsWith(best)) {
      pairs.merge(word, best, symbol)
      const wait = turn()
      if (wait) await wait
    }
    onProgress?.(merges.length)
  }
  return merges
}

/** Gives the event loop its turn when the last one is long past; undefined before that. */
function turnTaker(signal: AbortSignal | undefined): () => Promise<void> | undefined {
  let last = performance.now()
  let calls = 0
  return () => {
    if (++calls % 64 !== 0 || performance.now() - last < TURN_MS) return undefined
    return nextTurn().then(() => {
      throwIfAborted(signal, 'training the tokenizer')
      last = performance.now()
    })
  }
}

/** Counts of all pairs of neighbours, and the words in which each pair is. */
class Pairs {
  readonly #base: number
  readonly #counts = new Map<number, number>()
  /** Words that had the pair at some time, each perhaps more than once. */
  readonly #words = new Map<number, Word[]>()
  readonly #queue = new PairQueue()

  /** @param base more than any symbol */
  constructor(base: number) {
    this.#base = base
  }

  addWord(word: Word): void {
    for (const pair of this.#pairsOf(word)) {
      this.#change(pair, word.count)
      this.#placeIn(pair, word)
    }
  }

  mostFrequent(): { left: number; right: number; count: number } | null {
    for (;;) {
      const top = this.#queue.pop((pair) => this.#counts.get(pair) ?? 0)
      if (top === null) return null
      return { left: Math.floor(top.pair / this.#base), right: top.pair % this.#base, count: top.count }
    }
  }

  wordsWith({ left, right }: Merge): Word[] {
    return this.#words.get(left * this.#base + right) ?? []
  }

  /** Replaces the pair in the word by `symbol`. */
  merge(word: Word, { left, right }: Merge, symbol: number): void {
    const merged: number[] = []
    const { symbols } = word
    for (let i = 0; i < symbols.length; i++) {
      const isPair = symbols[i] === left && symbols[i + 1] === right
      merged.push(isPair ? symbol : symbols[i]!)
      if (isPair) i++
    }
    if (merged.length === symbols.length) return
    const before = new Set<number>()
    for (const pair of this.#pairsOf(word)) {
      this.#change(pair, -word.count)
      before.add(pair)
    }
    word.symbols = merged
    for (const pair of this.#pairsOf(word)) {
      this.#change(pair, word.count)
      if (!before.has(pair)) this.#placeIn(pair, word)
    }
    for (const pair of before) if (!this.#counts.has(pair)) this.#words.delete(pair)
  }

  *#pairsOf({ symbols }: Word): Generator<number> {
    for (let i = 1; i < symbols.length; i++) yield symbols[i - 1]! * this.#base + symbols[i]!
  }

  #change(pair: number, by: number): void {
    const count = (this.#counts.get(pair) ?? 0) + by
    if (count === 0) this.#counts.delete(pair)
    else this.#counts.set(pair, count)
    if (by > 0) this.#queue.raise(pair)
  }

  #placeIn(pair: number, word: Word): void {
    const words = this.#words.get(pair)
    if (words === undefined) this.#words.set(pair, [word])
    else if (words.at(-1) !== word) words.push(word)
  }
}
