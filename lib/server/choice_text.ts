// Turns the tokens of one choice into the text that may be sent: whole characters, and no part of a stop string.
import type { GeneratedToken } from '../generation.js'
import type { Detokenizer } from '../tokenizer.js'
import { StopStrings } from './stop_strings.js'
import type { PlacedToken } from './top_logprobs.js'

/** A token in the text of its choice. Its text is empty if a later token completes its character. */
export interface TextToken {
  token: number
  text: string
  /** UTF-16 units of the text before the token. */
  offset: number
  /** Null for the first token of a prompt. */
  logprob: number | null
  /** The most likely tokens in its place; null if not asked for. */
  topLogprobs: PlacedToken[] | null
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
    const topLogprobs = top?.map((other) => ({ ...other, text: this.#detokenizer.peek(other.token) })) ?? null
    const text = this.#detokenizer.push(token)
    this.#tokens.push({ token, text, offset: this.#end, logprob, topLogprobs })
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
