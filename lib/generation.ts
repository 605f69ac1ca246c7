// One request under way: its tokens as they come, and its result.
import type { MorError } from './errors.js'
import type { Tokenizer } from './tokenizer.js'

/** A token of the vocabulary and the natural logarithm of its probability. */
export interface TokenLogprob {
  token: number
  logprob: number
}

export interface GeneratedToken {
  token: number
  /** Recursions of the pass that produced the token: 1..N, or 0 where the router made it skip the block. */
  depth: number
  /** Natural logarithm of the probability the model gave it. */
  logprob: number
  /**
   * The most likely tokens at its position, the most likely first, equally likely ones in the order of their ids. The
   * generated one is among them only if it is that likely. Fewer than asked for where the vocabulary has no more. Present
   * exactly when asked for.
   */
  topLogprobs?: TokenLogprob[]
}

/** A token of a prompt, as GeneratedToken says it of a generated one. Null for the first, before which there is none. */
export type PromptToken = GeneratedToken | null

/** A stop token was generated; maxTokens or the end of the context was reached; it was aborted; or see `error`. */
export type FinishReason = 'stop' | 'length' | 'abort' | 'error'

export interface GenerationResult {
  /** Without the stop token. */
  tokens: number[]
  depths: number[]
  logprobs: number[]
  /** For each token as in GeneratedToken. Present exactly when asked for. */
  topLogprobs?: TokenLogprob[][]
  /** Of the prompt; of its beginning where the generation ended within it. Present exactly when asked for. */
  promptTokens?: PromptToken[]
  finishReason: FinishReason
  /** Present exactly when finishReason is 'error'. */
  error?: MorError
}

/** What is reported beside the tokens. */
export interface GenerationLists {
  /** Whether every token comes with its `topLogprobs`. */
  topLogprobs?: boolean
  /** Whether the tokens of the prompt are reported. */
  promptTokens?: boolean
}

/**
 * Iterate it for tokens as they come, or await `result`, or both. Every iterator starts at the first token and may be
 * slow: tokens that it has not taken yet are kept. Leaving an iteration early (`break`) aborts the request. The iteration
 * throws an error of the request; `result` never rejects.
 */
export class Generation implements AsyncIterable<GeneratedToken> {
  readonly result: Promise<GenerationResult>
  readonly #tokens: GeneratedToken[] = []
  readonly #prompt: ArrayLike<number>
  readonly #abort: () => void
  readonly #lists: GenerationLists
  readonly #promptTokens: PromptToken[] = [null]
  #finished: GenerationResult | undefined
  #resolveResult!: (result: GenerationResult) => void
  #wake!: () => void
  #changed!: Promise<void>

  /**
   * @internal
   * @param prompt the tokens that it goes on from
   */
  constructor(prompt: ArrayLike<number>, abort: () => void, lists: GenerationLists = {}) {
    this.#prompt = prompt
    this.#abort = abort
    this.#lists = lists
    this.result = new Promise((resolve) => {
      this.#resolveResult = resolve
    })
    this.#renewChanged()
  }

  /** Ends the request within one step; the tokens so far are its result. Does nothing once it has finished. */
  abort(): void {
    if (this.#finished === undefined) this.#abort()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken, void, undefined> {
    try {
      for (let next = 0; ; ) {
        const changed = this.#changed
        while (next < this.#tokens.length) yield copyOf(this.#tokens[next++]!)
        if (this.#finished?.error) throw this.#finished.error
        if (this.#finished !== undefined) return
        await changed
      }
    } finally {
      this.abort()
    }
  }

  /**
   * The tokens of the prompt with their log-probabilities, all of them before the first generated token comes; those of its
   * beginning where the generation ends within it, and none where `promptLogprobs` was not asked for. It never rejects.
   */
  async promptTokens(): Promise<PromptToken[]> {
    if (!this.#lists.promptTokens) return []
    while (this.#promptTokens.length < this.#prompt.length && this.#finished === undefined) await this.#changed
    return this.#promptTokens.map((token) => token && copyOf(token))
  }

  /**
   * The text as it comes, in pieces that never end inside a character: that of prompt and tokens together, less that of the
   * prompt. Otherwise like iterating the tokens.
   */
  async *text(tokenizer: Tokenizer): AsyncGenerator<string, void, undefined> {
    const detokenizer = tokenizer.detokenizer(this.#prompt)
    for await (const { token } of this) {
      const piece = detokenizer.push(token)
      if (piece !== '') yield piece
    }
    const rest = detokenizer.flush()
    if (rest !== '') yield rest
  }

  /** @internal The next token of the prompt, from the second on. */
  pushPrompt(token: GeneratedToken): void {
    this.#promptTokens.push(token)
    if (this.#promptTokens.length === this.#prompt.length) this.#notify()
  }

  /** @internal */
  push(token: GeneratedToken): void {
    this.#tokens.push(token)
    this.#notify()
  }

  /** @internal */
  finish(finishReason: FinishReason, error?: MorError): void {
    if (this.#finished !== undefined) return
    this.#finished = {
      tokens: this.#tokens.map(({ token }) => token),
      depths: this.#tokens.map(({ depth }) => depth),
      logprobs: this.#tokens.map(({ logprob }) => logprob),
      ...(this.#lists.topLogprobs && { topLogprobs: this.#tokens.map((token) => copyOf(token).topLogprobs!) }),
      ...(this.#lists.promptTokens && { promptTokens: this.#promptTokens.map((token) => token && copyOf(token)) }),
      finishReason,
      ...(error && { error }),
    }
    this.#resolveResult(this.#finished)
    this.#notify()
  }

  #notify(): void {
    const wake = this.#wake
    this.#renewChanged()
    wake()
  }

  #renewChanged(): void {
    this.#changed = new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}

/** One for every reader, so that none can change what another reads. */
function copyOf(token: GeneratedToken): GeneratedToken {
  if (token.topLogprobs === undefined) return { ...token }
  return { ...token, topLogprobs: token.topLogprobs.map((top) => ({ ...top })) }
}
