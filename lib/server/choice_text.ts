// Turns the tokens of one choice into the text that may be sent: whole characters, and nothing of a stop string.
// Must not know: HTTP, engines, the shape of an answer.
import type { GeneratedToken } from '../generation.js'
import type { Detokenizer } from '../tokenizer.js'
import { StopStrings } from './stop_strings.js'

/** A token in the text of its choice. Its own text is empty where a later token completes the character. */
export interface TextToken {
  text: string
  /** UTF-16 units before it. */
  offset: number
  logprob: number
}

/** What may be sent now: `text`, and the tokens that it is made of. */
export interface TextPiece {
  text: string
  tokens: TextToken[]
}

export class ChoiceText {
  readonly #detokenizer: Detokenizer
  readonly #stop: StopStrings
  /** Text not sent yet, from `#sent` units on. */
  #held = ''
  #sent = 0
  #tokens: TextToken[] = []
  #stopped = false

  constructor(detokenizer: Detokenizer, stop: readonly string[]) {
    this.#detokenizer = detokenizer
    this.#stop = new StopStrings(stop)
  }

  /** Whether a stop string came; the text ends before it. */
  get stopped(): boolean {
    return this.#stopped
  }

  push({ token, logprob }: GeneratedToken): TextPiece {
    const text = this.#detokenizer.push(token)
    this.#tokens.push({ text, offset: this.#end, logprob })
    return this.#add(text, this.#stop.push(text))
  }

  /** The rest, once no more tokens come: bytes of an unfinished character as U+FFFD. */
  finish(): TextPiece {
    const text = this.#detokenizer.flush()
    const stop = this.#stop.push(text)
    return this.#add(text, stop ?? this.#end + text.length, stop !== null)
  }

  get #end(): number {
    return this.#sent + this.#held.length
  }

  /** @param end units of the whole text that may be sent, null for all but what may become a stop string */
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
