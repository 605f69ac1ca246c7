// How a text is cut into words that BPE encodes independently of each other.
import { byteCharacters } from './byte_level_json.js'
import type { Internals, TokenizerJson } from './library.js'

export interface Words {
  /** The words of a text that is normalised. */
  split(text: string): string[]
  /** A word as the vocabulary writes it, in which every character is a token before the merges. */
  spelling(word: string): string
}

const characters = byteCharacters()

/** Null for a tokenizer whose words are known only when they are merged. */
export function wordsOf(json: TokenizerJson, internals: Internals): Words | null {
  return byteLevelWords(json, internals) ?? wordsBetweenMerges(internals)
}

/** The words of the pre-tokenizer, if bytes are all that it makes of them. Words that are known are not spelled. */
function byteLevelWords({ pre_tokenizer }: TokenizerJson, internals: Internals): Words | null {
  if (!pre_tokenizer) return null
  const steps = pre_tokenizer.type === 'Sequence' ? (pre_tokenizer.pretokenizers ?? []) : [pre_tokenizer]
  const { type, use_regex = true, add_prefix_space = false } = steps.at(-1) ?? { type: 'none' }
  if (type !== 'ByteLevel' || add_prefix_space || (steps.length === 1 && !use_regex)) return null
  if (steps.slice(0, -1).some(({ type }) => type !== 'Split' && type !== 'Digits')) return null
  const library = internals.pre_tokenizer!
  const splits = library.tokenizers?.slice(0, -1) ?? []
  const { pattern } = library.tokenizers?.at(-1) ?? library
  return {
    split(text) {
      let words = [text]
      for (const step of splits) words = words.flatMap((part) => step.pre_tokenize_text(part))
      return use_regex ? words.flatMap((part) => part.match(pattern!) ?? []) : words
    },
    spelling: (word) => Array.from(Buffer.from(word), (byte) => characters[byte]!).join(''),
  }
}

/**
 * What the pre-tokenizer gives, cut between any two characters that no merge joins: no token lies across such a place, and so
 * the merges on one side do not depend on the other. In the vocabularies of SentencePiece these are words with the spaces
 * before them, signs and digits.
 */
function wordsBetweenMerges({ model, pre_tokenizer }: Internals): Words | null {
  if (model.ignore_merges || model.end_of_word_suffix || model.continuing_subword_suffix) return null
  // Pairs of UTF-16 units: where two pairs of characters have the same, there are only fewer cuts.
  const joined = new Set(model.merges.map(([left, right]) => pairOf(left, left.length - 1, right, 0)))
  const cut = (text: string) => {
    const words: string[] = []
    let start = 0
    for (let i = 1; i < text.length; i++) {
      if (joined.has(pairOf(text, i - 1, text, i)) || isInCharacter(text, i)) continue
      words.push(text.slice(start, i))
      start = i
    }
    words.push(text.slice(start))
    return words
  }
  return {
    split: (text) => (pre_tokenizer?.pre_tokenize(text, { section_index: 0 }) ?? [text]).flatMap(cut),
    spelling: (word) => word,
  }
}

function pairOf(left: string, i: number, right: string, j: number): number {
  return (left.charCodeAt(i) << 16) | right.charCodeAt(j)
}

/** Whether the place before `i` is between the two units of one character. */
function isInCharacter(text: string, i: number): boolean {
  return (text.charCodeAt(i) & 0xfc00) === 0xdc00 && (text.charCodeAt(i - 1) & 0xfc00) === 0xd800
}
