// Counts the words of a text, as byte-level BPE splits it.
import { gpt2Words } from '../gpt2_words.js'

/** Beyond so many different words the rare ones are dropped, so that memory stays bounded: they take some 500 MB. */
const MOST_WORDS = 1 << 22
/** V8 keeps substrings of at least this length as references to the whole text. */
const SUBSTRING = 13

export class WordCounts {
  readonly words = new Map<string, number>()
  readonly #most: number
  /** Words that were seen no more often were dropped. */
  #dropped = 0

  constructor(most = MOST_WORDS) {
    this.#most = most
  }

  add(text: string): void {
    for (const word of text.match(gpt2Words) ?? []) {
      const count = this.words.get(word)
      if (count !== undefined) this.words.set(word, count + 1)
      else this.words.set(word.length < SUBSTRING ? word : Buffer.from(word, 'utf16le').toString('utf16le'), 1)
    }
    while (this.words.size > this.#most) {
      this.#dropped++
      for (const [word, count] of this.words) if (count <= this.#dropped) this.words.delete(word)
    }
  }
}
