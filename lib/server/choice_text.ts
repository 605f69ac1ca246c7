// Turns the tokens of one choice into the text that may be sent: whole characters, and nothing of a stop string.
// Must not know: HTTP, engines, the shape of an answer.
import type { GeneratedToken, TokenLogprob } from '../generation.js'
import type { Detokenizer, Tokenizer } from '../tokenizer.js'
import { StopStrings } from './stop_strings.js'
import { topLogprobs } from './top_logprobs.js'

/** In bytes, and so in tokens. */
const LONGEST_CHARACTER = 4

/** A token in the text of its choice. Its own text is empty where a later token completes the character. */
export interface TextToken {
  text: string
  /** UTF-16 units before it. */
  offset: number
  logprob: number
  /** By name, the most likely tokens in its place and itself; null where the engine was not asked for them. */
  topLogprobs: Record<string, number> | null
}

/** What may be sent now: `text`, and the tokens that it is made of. */
export interface TextPiece {
  text: string
  tokens: TextToken[]
}

export class ChoiceText {
  readonly #tokenizer: Pick<Tokenizer, 'decode' | 'detokenizer'>
  readonly #detokenizer: Detokenizer
  readonly #stop: StopStrings
  /** Text not sent yet, from `#sent` units on. */
  #held = ''
  #sent = 0
  #tokens: TextToken[] = []
  /** The last tokens: enough to hold the character that the next may complete, or the one before it. */
  #context: number[] = []
  #stopped = false

  constructor(tokenizer: Pick<Tokenizer, 'decode' | 'detokenizer'>, stop: readonly string[]) {
    this.#tokenizer = tokenizer
    this.#detokenizer = tokenizer.detokenizer()
    this.#stop = new StopStrings(stop)
  }

  /** Whether a stop string came; the text ends before it. */
  get stopped(): boolean {
    return this.#stopped
  }

  push({ token, logprob, topLogprobs: top }: GeneratedToken): TextPiece {
    const text = this.#detokenizer.push(token)
    const named = top === undefined ? null : this.#name(top, { token, logprob }, text)
    this.#tokens.push({ text, offset: this.#end, logprob, topLogprobs: named })
    return this.#add(text, this.#stop.push(text))
  }

  /** The rest, once no more tokens come: bytes of an unfinished character as U+FFFD. */
  finish(): TextPiece {
    const text = this.#detokenizer.flush()
    const stop = this.#stop.push(text)
    return this.#add(text, stop ?? this.#end + text.length, stop !== null)
  }

  #name(top: readonly TokenLogprob[], chosen: TokenLogprob, text: string): Record<string, number> {
    const named = topLogprobs(this.#tokenizer, top, chosen, text, this.#context)
    this.#context = [...this.#context, chosen.token].slice(-LONGEST_CHARACTER)
    return named
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
