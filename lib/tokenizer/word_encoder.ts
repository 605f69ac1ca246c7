// Encodes text by BPE a word at a time, and remembers the ids of words: most words of a text have been seen before.
import type { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers'
import { AddedTokens } from './added_tokens.js'
import type { Internals, TokenizerJson } from './library.js'
import { WordMerger } from './word_merger.js'
import { type Words, wordsOf } from './words.js'

/** Words that are remembered; when there are more, all are forgotten. Some 20 MB of memory. */
const REMEMBERED = 1 << 17
/** Longer words, in UTF-16 units, are not remembered, and the library encodes them. */
const LONGEST = 32
/** V8 keeps substrings of at least this length as references to the whole text. */
const SUBSTRING = 13

export class WordEncoder {
  readonly #internals: Internals
  readonly #words: Words
  /** Null: the library encodes short words too. */
  readonly #merger: WordMerger | null
  /** The id of which neighbours are one token: of unknown text, where the tokenizer joins it. */
  readonly #fused: number | undefined
  readonly #added: AddedTokens
  readonly #known = new Map<string, readonly number[]>()

  private constructor(internals: Internals, words: Words) {
    const { model } = internals
    this.#internals = internals
    this.#words = words
    this.#merger = WordMerger.of(model)
    this.#fused = model.fuse_unk ? model.unk_token_id : undefined
    this.#added = new AddedTokens(internals)
  }

  /** Null for a tokenizer whose words are not independent of each other. */
  static of(json: TokenizerJson, implementation: LibraryTokenizer): WordEncoder | null {
    if (json.model.type !== 'BPE') return null
    const internals = implementation as unknown as Internals
    const words = wordsOf(json, internals)
    return words === null ? null : new WordEncoder(internals, words)
  }

  /** The ids of `text`; null if an added token is written in it, or if it has a part that the vocabulary lacks. */
  encode(text: string): number[] | null {
    const [part, ...others] = this.#added.split(text)
    if (part === undefined) return []
    if (part.token !== null || others.length > 0) return null
    const ids: number[] = []
    for (const word of this.#words.split(part.text)) {
      const found = this.#known.get(word) ?? this.#encodeWord(word)
      if (found === null) return null
      for (const id of found) {
        if (id !== this.#fused || ids.at(-1) !== id) ids.push(id)
      }
    }
    return ids
  }

  #encodeWord(word: string): readonly number[] | null {
    const isShort = word.length <= LONGEST
    const ids = (isShort ? this.#mergeWord(word) : null) ?? this.#encodeByLibrary(word)
    if (ids === null || !isShort) return ids
    if (this.#known.size >= REMEMBERED) this.#known.clear()
    const copy = word.length < SUBSTRING ? word : Buffer.from(word, 'utf16le').toString('utf16le')
    this.#known.set(copy, ids)
    return ids
  }

  /** Null where the library is needed. */
  #mergeWord(word: string): number[] | null {
    if (this.#merger === null) return null
    const spelling = this.#words.spelling(word)
    const { ignore_merges, tokens_to_ids } = this.#internals.model
    const whole = ignore_merges ? tokens_to_ids.get(spelling) : undefined
    return whole === undefined ? this.#merger.merge(spelling) : [whole]
  }

  #encodeByLibrary(word: string): number[] | null {
    const { model } = this.#internals
    const ids = model.encode([this.#words.spelling(word)]).map((token) => model.tokens_to_ids.get(token))
    return ids.every((id) => id !== undefined) ? ids : null
  }
}
