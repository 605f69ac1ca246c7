// One request under way: its tokens as they come, and its result.
import { Checker } from './check.js'
import { MorError, toMorError } from './errors.js'
import { GeneratedText } from './generated_text.js'
import type { GeneratedToken, TokenLogprob } from './generated_token.js'
import { readTokenizer } from './tokenizer/option.js'
import type { Tokenizer } from './tokenizer.js'

export type { GeneratedToken, TokenLogprob } from './generated_token.js'

/**
 * A token of a prompt, as GeneratedToken says it of a generated one. Null for those before `promptLogprobsFrom`, and so for the
 * first, before which there is none.
 */
export type PromptToken = GeneratedToken | null

/** A stop token or a text of `stop` was generated; maxTokens or the end of the context was reached; it was aborted; or see `error`. */
export type FinishReason = 'stop' | 'length' | 'abort' | 'error'

export interface GenerationResult {
  /** Without a stop token, but with the tokens of a text of `stop`. */
  tokens: number[]
  /**
   * Without a text of `stop`. Present where the prompt was a text or messages, or `stop` was given, once the tokenizer had been
   * loaded.
   */
  text?: string
  depths: number[]
  logprobs: number[]
  /** For each token as in GeneratedToken. Present exactly when asked for. */
  topLogprobs?: TokenLogprob[][]
  /** The stop token that ended it, which is not among `tokens`. Present where one did. */
  stopToken?: GeneratedToken
  /** Of the prompt; of its beginning where the generation ended within it. Present exactly when asked for. */
  promptTokens?: PromptToken[]
  finishReason: FinishReason
  /** Present exactly when finishReason is 'error'. */
  error?: MorError
}

/** When a request came to each of its stages, in milliseconds of `performance.now()`. Null: it has not, or never did. */
export interface GenerationTiming {
  /** It was handed to the engine; a text has been encoded by then. */
  submitted: number | null
  /** The engine began to compute its prompt. Known once the first token is there. */
  began: number | null
  firstToken: number | null
  ended: number | null
}

/** What is reported beside the tokens. */
export interface GenerationLists {
  /** Whether every token comes with its `topLogprobs`. */
  topLogprobs?: boolean
  /** The first token of the prompt that is reported; left out: none is. */
  promptTokensFrom?: number
}

/** What a generation needs to make text. */
export interface GenerationText {
  /** The tokenizer of its engine. */
  tokenizer(): Promise<Tokenizer>
  /** As in GenerateOptions. */
  stop: readonly string[]
  minTokens: number
}

/**
 * Iterate it for tokens or, by `text()`, for text as it comes, or await `result`, or all of them. Every iterator starts at the
 * first token and may be slow: tokens that it has not taken yet are kept. Leaving an iteration early (`break`) aborts the
 * request. The iteration throws an error of the request; `result` never rejects.
 */
export class Generation implements AsyncIterable<GeneratedToken> {
  readonly result: Promise<GenerationResult>
  readonly #timing: GenerationTiming = { submitted: null, began: null, firstToken: null, ended: null }
  readonly #tokens: GeneratedToken[] = []
  readonly #arrivals: number[] = []
  readonly #abort: () => void
  readonly #lists: GenerationLists
  readonly #makesText: GenerationText | null
  readonly #promptTokens: PromptToken[]
  /** Null while it is being encoded. */
  #prompt: ArrayLike<number> | null
  /** The text so far, where stop strings are looked for or the result has text. */
  #text: { pieces: GeneratedText; shown: string } | null = null
  #stopToken: GeneratedToken | null = null
  #finished: GenerationResult | undefined
  #resolveResult!: (result: GenerationResult) => void
  #wake!: () => void
  #changed!: Promise<void>

  /**
   * @internal
   * @param prompt the tokens that it goes on from; null: `begin` will say it
   */
  constructor(
    prompt: ArrayLike<number> | null,
    abort: () => void,
    lists: GenerationLists = {},
    makesText: GenerationText | null = null,
  ) {
    this.#prompt = prompt
    this.#abort = abort
    this.#lists = lists
    this.#promptTokens = Array(lists.promptTokensFrom ?? 1).fill(null)
    this.#makesText = makesText
    this.result = new Promise((resolve) => {
      this.#resolveResult = resolve
    })
    this.#renewChanged()
  }

  /** Tokens of the prompt; null while it is being encoded. */
  get promptLength(): number | null {
    return this.#prompt?.length ?? null
  }

  get timing(): Readonly<GenerationTiming> {
    return this.#timing
  }

  /** @internal When each of the tokens came, as in GenerationTiming; whoever reads them may be later. */
  get arrivals(): readonly number[] {
    return this.#arrivals
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
    if (this.#lists.promptTokensFrom === undefined) return []
    const known = () => this.#promptTokens.length === this.#prompt?.length
    while (!known() && this.#finished === undefined) await this.#changed
    return this.#promptTokens.map((token) => token && copyOf(token))
  }

  /**
   * The text as it comes, in pieces that never end inside a character: that of prompt and tokens together, less that of the
   * prompt. It ends before a text of `stop`. Otherwise like iterating the tokens.
   * @param tokenizer default: that of the engine
   * @throws {MorError} for what is no tokenizer, and where the engine has none: INVALID_ARGUMENT; what Tokenizer.load throws
   */
  async *text(tokenizer?: Tokenizer): AsyncGenerator<string, void, undefined> {
    let text: GeneratedText | null = null
    try {
      const given = readTokenizer(Checker.of({ tokenizer }, 'generation.text()'))
      const chosen = given ?? (await this.#ownTokenizer())
      while (this.#prompt === null && this.#finished === undefined) await this.#changed
      text = this.#newText(chosen)
      for await (const token of this) {
        const piece = text.push(token).text
        if (piece !== '') yield piece
        if (text.stopped) return
      }
      const rest = text.finish().text
      if (rest !== '') yield rest
    } finally {
      if (text === null) this.abort() // else the iteration does
    }
  }

  /** @internal The prompt, and with a tokenizer the start of the text that the result will have. */
  begin(prompt: ArrayLike<number>, tokenizer: Tokenizer): void {
    this.#prompt = prompt
    this.#promptTokens.length = Math.min(this.#promptTokens.length, prompt.length)
    this.#text = { pieces: this.#newText(tokenizer), shown: '' }
    this.#notify()
  }

  /** @internal */
  submitted(): void {
    this.#timing.submitted = performance.now()
  }

  /** @internal The engine began with the prompt so many seconds ago. */
  began(seconds: number): void {
    this.#timing.began = Math.max(performance.now() - seconds * 1000, this.#timing.submitted ?? 0)
  }

  /** @internal The next token of the prompt that is reported. */
  pushPrompt(token: GeneratedToken): void {
    this.#promptTokens.push(token)
    if (this.#promptTokens.length === this.#prompt?.length) this.#notify()
  }

  /** @internal */
  push(token: GeneratedToken): void {
    if (this.#finished !== undefined) return
    const now = performance.now()
    this.#timing.firstToken ??= now
    this.#tokens.push(token)
    this.#arrivals.push(now)
    if (this.#text !== null) {
      const { pieces } = this.#text
      try {
        this.#text.shown += pieces.push(token).text
      } catch (error) {
        // A tokenizer of the caller threw, which is no matter of the other requests.
        this.abort()
        this.finish('error', toMorError(error))
        return
      }
      if (pieces.stopped) {
        this.abort()
        this.finish('stop')
        return
      }
    }
    this.#notify()
  }

  /** @internal A stop token ends it. */
  stop(token: GeneratedToken): void {
    if (this.#finished !== undefined) return
    this.#stopToken = token
    this.finish('stop')
  }

  /** @internal */
  finish(reason: FinishReason, failure?: MorError): void {
    if (this.#finished !== undefined) return
    this.#timing.ended = performance.now()
    const { text, thrown } = this.#endText()
    const error = failure ?? thrown
    const stopped = reason === 'length' && this.#text?.pieces.stopped
    this.#finished = {
      tokens: this.#tokens.map(({ token }) => token),
      depths: this.#tokens.map(({ depth }) => depth),
      logprobs: this.#tokens.map(({ logprob }) => logprob),
      ...(this.#lists.topLogprobs && { topLogprobs: this.#tokens.map((token) => copyOf(token).topLogprobs!) }),
      ...(this.#lists.promptTokensFrom !== undefined && {
        promptTokens: this.#promptTokens.map((token) => token && copyOf(token)),
      }),
      ...(text !== null && { text }),
      ...(this.#stopToken !== null && { stopToken: copyOf(this.#stopToken) }),
      finishReason: error ? 'error' : stopped ? 'stop' : reason,
      ...(error && { error }),
    }
    this.#resolveResult(this.#finished)
    this.#notify()
  }

  /** The whole text. Where a tokenizer of the caller throws, what there was before. */
  #endText(): { text: string | null; thrown?: MorError } {
    if (this.#text === null) return { text: null }
    const { pieces, shown } = this.#text
    if (pieces.stopped) return { text: shown }
    try {
      return { text: shown + pieces.finish().text }
    } catch (error) {
      return { text: shown, thrown: toMorError(error) }
    }
  }

  async #ownTokenizer(): Promise<Tokenizer> {
    if (this.#makesText !== null) return this.#makesText.tokenizer()
    throw new MorError('INVALID_ARGUMENT', 'this generation has no tokenizer: give one to text()')
  }

  #newText(tokenizer: Tokenizer): GeneratedText {
    const { stop = [], minTokens = 0 } = this.#makesText ?? {}
    return new GeneratedText(tokenizer.detokenizer(this.#prompt ?? []), stop, minTokens)
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
