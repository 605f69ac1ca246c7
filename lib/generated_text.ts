// Turns generated tokens into the text that may be shown: whole characters, and no part of a stop string.
import type { GeneratedToken, TokenLogprob } from './generated_token.js'
import { StopStrings } from './stop_strings.js'
import type { Detokenizer } from './tokenizer.js'

/** A token with the text that it adds in its place, or would have added. */
export interface PlacedToken extends TokenLogprob {
  text: string
}

/** A token in its text. Its own text is empty if a later token completes its character. */
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

/** Text that may be shown now, and the tokens that it comes from. */
export interface TextPiece {
  text: string
  tokens: TextToken[]
}

export class GeneratedText {
  readonly #detokenizer: Detokenizer
  readonly #stop: StopStrings
  readonly #minTokens: number
  /** The text from unit `#shown` on, which has not been returned. */
  #held = ''
  #shown = 0
  #count = 0
  #tokens: TextToken[] = []
  #stopped = false

  /**
   * @param detokenizer a new one, which goes on from the prompt
   * @param minTokens a stop string that ends in the text of the first ones is none
   */
  constructor(detokenizer: Detokenizer, stop: readonly string[], minTokens = 0) {
    this.#minTokens = minTokens
    this.#detokenizer = detokenizer
    this.#stop = new StopStrings(stop)
  }

  /** Whether a stop string was found; the text ends before it. */
  get stopped(): boolean {
    return this.#stopped
  }

  push(generated: GeneratedToken): TextPiece {
    const listed = this.#listed(generated)
    const text = this.#detokenizer.push(generated.token)
    this.#tokens.push({ ...listed, text, offset: this.#end })
    return this.#add(text, this.#stop.push(text, ++this.#count > this.#minTokens))
  }

  /**
   * The rest, when no more tokens come; bytes of an unfinished character become U+FFFD.
   * @param stopToken comes after it where it ended the generation: the text of this token is its name, and not part of the piece's
   */
  finish(stopToken?: GeneratedToken): TextPiece {
    const last = stopToken && { ...this.#listed(stopToken), text: this.#detokenizer.peek(stopToken.token) }
    const text = this.#detokenizer.flush()
    const stop = this.#stop.push(text)
    const piece = this.#add(text, stop ?? this.#end + text.length, stop !== null)
    if (last && stop === null) piece.tokens.push({ ...last, offset: this.#end })
    return piece
  }

  /** What is reported of a token that the detokenizer has not been given yet. */
  #listed({ token, logprob, topLogprobs: top }: GeneratedToken): Omit<TextToken, 'text' | 'offset'> {
    const topLogprobs = top?.map((other) => ({ ...other, text: this.#detokenizer.peek(other.token) })) ?? null
    return { token, logprob, topLogprobs }
  }

  get #end(): number {
    return this.#shown + this.#held.length
  }

  /** @param end how many units of the whole text may be shown; null: all but those that may begin a stop string */
  #add(text: string, end: number | null, stopped = end !== null): TextPiece {
    this.#held += text
    this.#stopped = stopped
    const free = end ?? this.#end - this.#stop.held
    const piece = this.#held.slice(0, free - this.#shown)
    const isFree = (token: TextToken) => (stopped ? token.offset < free : token.offset + token.text.length <= free)
    const count = this.#tokens.findIndex((token) => !isFree(token))
    const tokens = this.#tokens.splice(0, count === -1 ? this.#tokens.length : count)
    this.#held = this.#held.slice(piece.length)
    this.#shown = free
    return { text: piece, tokens }
  }
}
