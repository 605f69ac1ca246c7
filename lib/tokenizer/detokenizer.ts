// The streaming detokenizer of every tokenizer, made of the decoding of whole sequences.
import { lengthOf } from '../tokens.js'
import type { Detokenizer } from './interface.js'
import { checkTokenId } from './token_id.js'

const REPLACEMENT = '\uFFFD'
/** Lengths of the window in tokens. A character has at most four bytes, and so at most four tokens. */
const SHORT_WINDOW = 8
const LONGEST_WINDOW = 32

/** What a tokenizer gives its detokenizers. */
export interface Decoding {
  /** The text of a non-empty sequence of ids that have text. */
  decode(ids: number[]): string
  /** The name of a token that is left out of the text, such as a begin token; '' for padding. Null: the token has text. */
  leftOut(id: number): string | null
}

/**
 * The text that a token adds depends on its neighbours (a leading space, a byte of a character). So each new token is decoded
 * together with the tokens of the piece before it, or with the end of the prompt, and only the difference is returned. An
 * unfinished character decodes to one U+FFFD at the very end, which is held back until the character is complete or known to
 * be broken.
 */
export class WindowDetokenizer implements Detokenizer {
  readonly #decoding: Decoding
  /** The tokens of the last finished piece, as context, and the tokens since. */
  #window: number[] = []
  #contextTokens = 0
  /** UTF-16 units of the window's text that were returned, or that belong to the prompt. */
  #returned = 0
  /** The text of the prompt's end if its last character may be unfinished and no token since has shown more. */
  #openPrompt: string | null = null

  constructor(decoding: Decoding, prompt: ArrayLike<number> = []) {
    this.#decoding = decoding
    for (let i = lengthOf(prompt, 'detokenizer: the prompt') - 1; i >= 0 && this.#window.length < SHORT_WINDOW; i--) {
      const id = checkTokenId(prompt[i]!, i)
      if (decoding.leftOut(id) === null) this.#window.unshift(id)
    }
    this.#contextTokens = this.#window.length
    const text = this.#textOf(this.#window)
    this.#returned = text.length
    if (text.endsWith(REPLACEMENT)) this.#openPrompt = text
  }

  push(id: number): string {
    if (this.#decoding.leftOut(checkTokenId(id, 0)) !== null) return ''
    this.#window.push(id)
    const text = this.#textOf(this.#window)
    const start = this.#start(text)
    if (text !== this.#openPrompt) this.#openPrompt = null
    if (text.endsWith(REPLACEMENT)) {
      const piece = text.slice(start, -REPLACEMENT.length)
      this.#returned = start + piece.length
      if (this.#window.length >= LONGEST_WINDOW) this.#shorten()
      return piece
    }
    this.#window = this.#window.slice(this.#contextTokens)
    this.#contextTokens = this.#window.length
    this.#returned = this.#textOf(this.#window).length
    return text.slice(start)
  }

  peek(id: number): string {
    const name = this.#decoding.leftOut(checkTokenId(id, 0))
    const text = this.#textOf(name === null ? [...this.#window, id] : this.#window)
    return text.slice(this.#start(text)) + (name ?? '')
  }

  flush(): string {
    const rest = this.#textOf(this.#window).slice(this.#returned)
    this.#window = []
    this.#contextTokens = 0
    this.#returned = 0
    this.#openPrompt = null
    return rest
  }

  #textOf(ids: number[]): string {
    return ids.length === 0 ? '' : this.#decoding.decode(ids)
  }

  /** Where in the window's text the part begins that is new. The prompt's last character is new if a token completed it. */
  #start(text: string): number {
    const completed = this.#openPrompt !== null && !text.startsWith(this.#openPrompt)
    return completed ? this.#returned - REPLACEMENT.length : this.#returned
  }

  /** Shortens the window in a long run of broken bytes: only the last few tokens can still become a character. */
  #shorten(): void {
    this.#window = this.#window.slice(-SHORT_WINDOW)
    this.#contextTokens = 0
    this.#returned = this.#textOf(this.#window).length - REPLACEMENT.length
  }
}
