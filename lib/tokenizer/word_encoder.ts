// Encodes text by byte-level BPE a word at a time, and remembers the ids of words: most words of a text have been seen before.
import type { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers'
import { byteCharacters } from './byte_level_json.js'
import type { Internals, TokenizerJson } from './library.js'
import { WordMerger } from './word_merger.js'

/** Words that are remembered; when there are more, all are forgotten. Some 20 MB of memory. */
const REMEMBERED = 1 << 17
/** Longer words, in UTF-16 units, are not remembered, and the library encodes them. */
const LONGEST = 32
/** V8 keeps substrings of at least this length as references to the whole text. */
const SUBSTRING = 13

const characters = byteCharacters()

export class WordEncoder {
  readonly #internals: Internals
  readonly #split: (text: string) => string[]
  /** Null: the library encodes short words too. */
  readonly #merger: WordMerger | null
  readonly #known = new Map<string, readonly number[]>()

  private constructor(internals: Internals, split: (text: string) => string[]) {
    this.#internals = internals
    this.#split = split
    this.#merger = WordMerger.of(internals.model, characters)
  }

  /** Null for a tokenizer whose words are not independent of each other, or are not made of bytes. */
  static of(json: TokenizerJson, implementation: LibraryTokenizer): WordEncoder | null {
    const { model, normalizer, pre_tokenizer } = json
    if (model.type !== 'BPE' || model.fuse_unk || normalizer || !pre_tokenizer) return null
    const steps = pre_tokenizer.type === 'Sequence' ? (pre_tokenizer.pretokenizers ?? []) : [pre_tokenizer]
    const { type, use_regex = true, add_prefix_space = false } = steps.at(-1) ?? { type: 'none' }
    if (type !== 'ByteLevel' || add_prefix_space || (steps.length === 1 && !use_regex)) return null
    if (steps.slice(0, -1).some(({ type }) => type !== 'Split' && type !== 'Digits')) return null
    const internals = implementation as unknown as Internals
    const library = internals.pre_tokenizer!
    const splits = library.tokenizers?.slice(0, -1) ?? []
    const { pattern } = library.tokenizers?.at(-1) ?? library
    const split = (text: string) => {
      let words = [text]
      for (const step of splits) words = words.flatMap((part) => step.pre_tokenize_text(part))
      return use_regex ? words.flatMap((part) => part.match(pattern!) ?? []) : words
    }
    return new WordEncoder(internals, split)
  }

  /** The ids of `text`; null if an added token is written in it, or if it has a byte that the vocabulary lacks. */
  encode(text: string): number[] | null {
    const { splitter_unnormalized, splitter_normalized, added_tokens_map } = this.#internals
    const sections = splitter_unnormalized.split(text)
    if (sections.length > 1 || added_tokens_map.has(text) || splitter_normalized.split(text).length > 1) return null
    const ids: number[] = []
    for (const word of this.#split(text)) {
      const found = this.#known.get(word) ?? this.#encodeWord(word)
      if (found === null) return null
      for (const id of found) ids.push(id)
    }
    return ids
  }

  #encodeWord(word: string): readonly number[] | null {
    const isShort = word.length <= LONGEST
    const ids = isShort && this.#merger !== null ? this.#mergeWord(word, this.#merger) : this.#encodeByLibrary(word)
    if (ids === null || !isShort) return ids
    if (this.#known.size >= REMEMBERED) this.#known.clear()
    const copy = word.length < SUBSTRING ? word : Buffer.from(word, 'utf16le').toString('utf16le')
    this.#known.set(copy, ids)
    return ids
  }

  #mergeWord(word: string, merger: WordMerger): number[] {
    const { ignore_merges, tokens_to_ids } = this.#internals.model
    const whole = ignore_merges ? tokens_to_ids.get(inCharacters(word)) : undefined
    return whole === undefined ? merger.merge(word) : [whole]
  }

  #encodeByLibrary(word: string): number[] | null {
    const { model } = this.#internals
    const ids = model.encode([inCharacters(word)]).map((token) => model.tokens_to_ids.get(token))
    return ids.every((id) => id !== undefined) ? ids : null
  }
}

/** The word as the vocabulary writes its bytes. */
function inCharacters(word: string): string {
  return Array.from(Buffer.from(word), (byte) => characters[byte]!).join('')
}
