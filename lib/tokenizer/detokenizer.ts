// Streaming detokenisation for tokenizers that can only decode whole sequences.
import type { Detokenizer } from './interface.js'

const REPLACEMENT = '\uFFFD'
/** Lengths of the window in tokens. A character has at most four bytes, and so at most four tokens. */
const SHORT_WINDOW = 8
const LONGEST_WINDOW = 32

/**
 * The text that a token adds depends on its neighbours (a leading space, a byte of a character). So each new token is decoded
 * together with the tokens of the piece before it, and only the difference is returned. An unfinished character decodes to
 * one U+FFFD at the very end, which is held back until the character is complete or known to be broken.
 */
export class WindowDetokenizer implements Detokenizer {
  readonly #decode: (ids: number[]) => string
  /** The tokens of the last finished piece, as context, and the tokens since. */
  #window: number[] = []
  #contextTokens = 0
  /** UTF-16 units of the window's text that were returned. */
  #returned = 0

  /** @param decode text of a non-empty sequence of ids */
  constructor(decode: (ids: number[]) => string) {
    this.#decode = decode
  }

  push(id: number): string {
    this.#window.push(id)
    const text = this.#decode(this.#window)
    if (text.endsWith(REPLACEMENT)) {
      const piece = text.slice(this.#returned, -1)
      this.#returned += piece.length
      if (this.#window.length >= LONGEST_WINDOW) this.#shorten()
      return piece
    }
    const piece = text.slice(this.#returned)
    this.#window = this.#window.slice(this.#contextTokens)
    this.#contextTokens = this.#window.length
    this.#returned = this.#decode(this.#window).length
    return piece
  }

  /** Shortens the window in a long run of broken bytes: only the last few tokens can still become a character. */
  #shorten(): void {
    this.#window = this.#window.slice(-SHORT_WINDOW)
    this.#contextTokens = 0
    this.#returned = this.#decode(this.#window).length - REPLACEMENT.length
  }

  flush(): string {
    const rest = this.#window.length > 0 ? this.#decode(this.#window).slice(this.#returned) : ''
    this.#window = []
    this.#contextTokens = 0
    this.#returned = 0
    return rest
  }
}
