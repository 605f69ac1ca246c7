// Finds added tokens in a text by the rules of Hugging Face's own library: first in the text itself, then those with `normalized` in
// what the normalizer makes of each part between the first.
import type { AddedToken } from '@huggingface/tokenizers'

export interface Splitter {
  /** The parts of `text`: added tokens, of which longer ones come before shorter ones, and what lies between them. */
  split(text: string): string[]
}

export interface Normalizer {
  normalize(text: string): string
}

/** What the library has of added tokens. Its types keep that private. */
export interface TokenTables {
  added_tokens: AddedToken[]
  /** Finds the tokens with `normalized` too, where there is no normalizer. */
  splitter_unnormalized: Splitter
  splitter_normalized: Splitter
  normalizer: Normalizer | null
}

/** An added token, or what lies between two of them. */
export interface Part {
  text: string
  token: AddedToken | null
}

export class AddedTokens {
  readonly #unnormalized: TokenFinder
  readonly #normalized: TokenFinder
  readonly #normalizer: Normalizer | null

  constructor({ added_tokens, splitter_unnormalized, splitter_normalized, normalizer }: TokenTables) {
    const isNormalized = (token: AddedToken) => token.normalized && normalizer !== null
    const tableOf = (tokens: AddedToken[], written: (token: AddedToken) => string) =>
      new Map(tokens.map((token) => [written(token), token]))
    const unnormalized = added_tokens.filter((token) => !isNormalized(token))
    const normalized = added_tokens.filter(isNormalized)
    this.#unnormalized = new TokenFinder(
      splitter_unnormalized,
      tableOf(unnormalized, ({ content }) => content),
    )
    this.#normalized = new TokenFinder(
      splitter_normalized,
      tableOf(normalized, ({ content }) => normalizer!.normalize(content)),
    )
    this.#normalizer = normalizer
  }

  /** The parts of `text`, normalised. */
  split(text: string): Part[] {
    const parts = this.#unnormalized.split(text)
    const normalizer = this.#normalizer
    if (normalizer === null) return parts
    return parts.flatMap((part) =>
      part.token === null ? this.#normalized.split(normalizer.normalize(part.text)) : [part],
    )
  }
}

class TokenFinder {
  readonly #splitter: Splitter
  readonly #tokens: Map<string, AddedToken>

  /** @param tokens those that the splitter finds, by what it finds of each */
  constructor(splitter: Splitter, tokens: Map<string, AddedToken>) {
    this.#splitter = splitter
    this.#tokens = tokens
  }

  split(text: string): Part[] {
    if (this.#tokens.size === 0) return text === '' ? [] : [{ text, token: null }]
    const parts: Part[] = []
    let done = 0
    let end = 0
    for (const found of this.#splitter.split(text)) {
      const start = end
      end += found.length
      const token = this.#tokens.get(found)
      if (token === undefined || (token.single_word && isInWord(text, start, end))) continue
      const from = token.lstrip ? spaceBefore(text, start, done) : start
      if (from > done) parts.push({ text: text.slice(done, from), token: null })
      parts.push({ text: found, token })
      done = token.rstrip ? spaceAfter(text, end) : end
    }
    if (done < text.length) parts.push({ text: text.slice(done), token: null })
    return parts
  }
}

const WORD = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]'
const endsInWord = new RegExp(`${WORD}$`, 'u')
const beginsInWord = new RegExp(`^${WORD}`, 'u')

function isInWord(text: string, start: number, end: number): boolean {
  // Two units are enough for one character.
  return endsInWord.test(text.slice(Math.max(0, start - 2), start)) || beginsInWord.test(text.slice(end, end + 2))
}

/** U+FEFF, which `\s` and `trim` take for a space, is none, and U+0085 is one. */
const isSpace = (character: string) => /\p{White_Space}/u.test(character)

/** Where the space before `end` begins, not before `least`. */
function spaceBefore(text: string, end: number, least: number): number {
  let start = end
  while (start > least && isSpace(text[start - 1]!)) start--
  return start
}

function spaceAfter(text: string, start: number): number {
  let end = start
  while (end < text.length && isSpace(text[end]!)) end++
  return end
}
