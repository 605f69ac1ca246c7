// Turns the tokens of one choice into the text that may be sent: whole characters, and no part of a stop string.
import type { GeneratedToken } from '../generation.js'
import type { Detokenizer } from '../tokenizer.js'
import { StopStrings } from './stop_strings.js'
import { topLogprobs } from './top_logprobs.js'

/** A token in the text of its choice. Its text is empty if a later token completes its character. */
export interface TextToken {
  text: string
  /** UTF-16 units of the text before the token. */
  offset: number
  logprob: number
  /** Log-probabilities by name of the most likely tokens in its place and of the token itself; null if not asked for. */
  topLogprobs: Record<string, number> | null
}

/** Text that may be sent now, and the tokens that it comes from. */
export interface TextPiece {
  text: string
  tokens: TextToken[]
}

export class ChoiceText {
  readonly #detokenizer: Detokenizer
  readonly #stop: StopStrings
  /** The text from unit `#sent` on, which has not been sent. */
  #held = ''
  #sent = 0
  #tokens: TextToken[] = []
  #stopped = false

  /** @param detokenizer a new one, which goes on from the prompt */
  constructor(detokenizer: Detokenizer, stop: readonly string[]) {
    this.#detokenizer = detokenizer
    this.#stop = new StopStrings(stop)
  }

  /** Whether a stop string was found; the text ends before it. */
  get stopped(): boolean {
    return this.#stopped
  }

  push({ token, logprob, topLogprobs: top }: GeneratedToken): TextPiece {
    const peeked = top?.map((other) => ({ ...other, text: this.#detokenizer.peek(other.token) }))
    const text = this.#detokenizer.push(token)
    const named = peeked === undefined ? null : topLogprobs(peeked, { token, logprob, text })
    this.#tokens.push({ text, offset: this.#end, logprob, topLogprobs: named })
    return this.#add(text, this.#stop.push(text))
  }

  /** The rest, when no more tokens come; bytes of an unfinished character become U+FFFD. */
  finish(): TextPiece {
    const text = this.#detokenizer.flush()
    const stop = this.#stop.push(text)
    return this.#add(text, stop ?? this.#end + text.length, stop !== null)
  }

  get #end(): number {
    return this.#sent + this.#held.length
  }

  /** @param end how many units of the whole text may be sent; null: all but those that may begin a stop string */
  #add(text: string, end: number | null, stopped = end !== null): TextPiece {
    this.#held += text
    this.#stopped = stopped
    const free = end ?? this.#end - this.#stop.held
    const piece = this.#held.slice(0, free - this.#sent)
    const isFree = (token: TextToken) => (stopped ? token.offset < free : token.offset + token.text.length <= free)
    const count = this.#tokens.findIndex((token) => !isFree(token))
    const tokens = this.#tokens.splice(0, count === -1 ? this.#tokens.length : count)
    this.#held = this.#held.slice(piece.length)
    this.#sent = free
    return { text: piece, tokens }
  }
}
