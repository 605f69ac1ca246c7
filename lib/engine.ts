// The public Engine: requests in, tokens out, as the addon's scheduler decides.
import { onAbort } from './abort_calls.js'
import type { ChatTemplate } from './chat/chat_template.js'
import { type ChatMessage, readMessages } from './chat/messages.js'
import { readChatTemplate } from './chat/option.js'
import { type RenderOptions, readRenderOptions } from './chat/render_options.js'
import { Checker, show } from './check.js'
import { MorError, toMorError, wrapNative, wrapNativeAsync } from './errors.js'
import { EventDelivery } from './event_delivery.js'
import { Generation } from './generation.js'
import { Model } from './model.js'
import { ModelText, type PromptText } from './model_text.js'
import type { EngineStats, NativeEngine, NativeGenerateParams } from './native/engine.js'
import { loadNative } from './native_loader.js'
import { type GenerateOptions, readStopStrings, resolveGenerateOptions } from './sampling.js'
import { readTokenizer } from './tokenizer/option.js'
import type { Tokenizer } from './tokenizer.js'
import { packPrompt } from './tokens.js'

export interface EngineOptions {
  /**
   * Most sequences that one pass of the shared block decodes; others wait. With a router up to twice as many are under way
   * at a time. Default 64.
   */
  maxBatchSize?: number
  /**
   * Most prompt tokens that are under way beside them. With more, long prompts get their first token sooner; with fewer, the
   * tokens of other requests come more evenly. Default 256.
   */
  prefillChunk?: number
  /**
   * Bytes for keys and values, rounded down to whole blocks. Default 0: room for eight sequences of full context in a cache
   * without recursions, but at most a quarter of the device's memory (of the CPU: what the control group grants).
   */
  kvCacheBytes?: number
  /** Keep the keys of finished requests for others that begin alike, until room is needed. Default true. */
  prefixCache?: boolean
  /** Encodes prompts that are text, finds texts of `stop`, and decodes. Default: that of the model, or of its folder. */
  tokenizer?: Tokenizer
  /** Makes prompts of conversations. Default: that of the model's folder. */
  chatTemplate?: ChatTemplate
}

export interface ChatOptions extends Omit<GenerateOptions, 'maxTokens'>, RenderOptions {
  /** Default: as many as the context holds. */
  maxTokens?: number
}

/**
 * Generates with one Model, with a KV cache and causal threshold routing. Any number of requests may be under way; each
 * gets what it would get alone. They take turns with the model's other calls, one step of all of them for one call. Do not
 * train the model while a generation is under way: its tokens would come from weights of different steps.
 */
export class Engine {
  readonly model: Model
  readonly #native: NativeEngine
  readonly #requests: Map<number, Generation>
  readonly #delivery: EventDelivery
  /** Generations whose prompt is being encoded. */
  readonly #encoding = new Set<Generation>()
  readonly #text: ModelText
  #nextId = 1
  #closing: Promise<void> | undefined

  /** @throws {MorError} INVALID_ARGUMENT, OUT_OF_MEMORY, DISPOSED */
  constructor(model: Model, options: EngineOptions = {}) {
    if (!(model instanceof Model)) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `Engine: the model is ${show(model)}; give what Model.create or Model.load resolves to`,
      )
    }
    const check = Checker.of(options, 'Engine')
    check.onlyKeys(['maxBatchSize', 'prefillChunk', 'kvCacheBytes', 'prefixCache', 'tokenizer', 'chatTemplate'])
    const native = {
      maxBatchSize: check.integer('maxBatchSize', { min: 1, max: 65536, fallback: 64 }),
      prefillChunk: check.integer('prefillChunk', { min: 1, max: 65536, fallback: 256 }),
      kvCacheBytes: check.integer('kvCacheBytes', { min: 0, max: Number.MAX_SAFE_INTEGER, fallback: 0 }),
      prefixCache: check.boolean('prefixCache', true),
    }
    this.model = model
    const tokenizer = readTokenizer(check) ?? model.text.tokenizer
    this.#text = new ModelText({ ...model.text, tokenizer, chatTemplate: readChatTemplate(check) })
    // The addon holds this callback as long as the native engine lives. The callback must not hold the Engine, or an engine
    // that was never closed could not be collected.
    const requests = new Map<number, Generation>()
    const delivery = new EventDelivery(requests)
    this.#requests = requests
    this.#delivery = delivery
    this.#native = wrapNative(() =>
      loadNative().createEngine(model.native, native, (events, messages) => delivery.receive(events, messages)),
    )
  }

  /**
   * Starts a request.
   * @param prompt a text, which the tokenizer encodes with the tokens that it puts around prompts; or token ids, at least one and
   * fewer than the context holds
   * @throws {MorError} at once: INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW, DISPOSED. What goes wrong later, such
   * as a text that is too long, is the generation's `finishReason: 'error'`.
   */
  generate(prompt: string | ArrayLike<number>, options: GenerateOptions): Generation {
    return this.#start(typeof prompt === 'string' ? prompt : packPrompt(prompt, this.model.config), options)
  }

  /**
   * Starts the answer to a conversation, whose prompt the model's chat template makes. Otherwise like `generate` with a text.
   * @throws {MorError} at once, as `generate`, also for wrong messages. Where the template refuses the messages, or there is
   * none, the generation has the error.
   */
  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Generation {
    const rendering = readRenderOptions(Checker.of(options, 'chat'))
    const { addGenerationPrompt: _, variables: _variables, maxTokens, ...others } = options
    const prompt = { messages: readMessages(messages), options: rendering }
    return this.#start(prompt, { ...others, maxTokens: maxTokens ?? this.model.config.max_position_embeddings })
  }

  /** @throws {MorError} DISPOSED */
  stats(): EngineStats {
    this.#checkOpen()
    return wrapNative(() => this.#native.stats())
  }

  /** Aborts all requests and gives the memory of keys and values back. Calling it again waits for the same end. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new MorError('DISPOSED', 'the engine is closed; make another')
  }

  #start(prompt: PromptText | Int32Array, options: GenerateOptions): Generation {
    this.#checkOpen()
    const { config } = this.model
    const tokens = prompt instanceof Int32Array ? prompt : null
    const params = resolveGenerateOptions(options, config, tokens?.length ?? 0)
    const stop = readStopStrings(options)
    const id = this.#nextId++
    const encoding = new AbortController()
    const abort = () => {
      encoding.abort()
      if (this.#encoding.has(generation)) generation.finish('abort')
      else this.#native.abort(id)
    }
    const lists = {
      topLogprobs: params.topLogprobs > 0,
      ...(params.promptLogprobs >= 0 && { promptTokensFrom: params.promptLogprobsFrom }),
    }
    const makesText = { tokenizer: () => this.#text.tokenizer(), stop, minTokens: params.minTokens }
    const generation = new Generation(tokens, abort, lists, makesText)
    const signal = options.signal ?? undefined // As with every option, null counts as left out.
    if (signal?.aborted) {
      generation.finish('abort')
      return generation
    }
    if (tokens !== null && stop.length === 0) this.#submit(id, generation, tokens, params)
    else this.#submitEncoded(id, generation, prompt, params, encoding.signal)
    if (signal !== undefined) generation.result.finally(onAbort(signal, () => generation.abort()))
    return generation
  }

  #submit(id: number, generation: Generation, tokens: Int32Array, params: NativeGenerateParams): void {
    this.#requests.set(id, generation)
    try {
      wrapNative(() => this.#native.submit(id, tokens, params))
      generation.submitted()
    } catch (error) {
      this.#requests.delete(id)
      throw error
    }
  }

  /** Submits a request that needs the tokenizer, once it is loaded and the prompt is encoded; errors are the generation's. */
  async #submitEncoded(
    id: number,
    generation: Generation,
    prompt: PromptText | Int32Array,
    params: NativeGenerateParams,
    signal: AbortSignal,
  ): Promise<void> {
    const { config } = this.model
    this.#encoding.add(generation)
    try {
      const tokenizer = await this.#text.tokenizer()
      const tokens = prompt instanceof Int32Array ? prompt : packPrompt(await this.#text.encode(prompt, signal), config)
      if (!this.#encoding.delete(generation)) return // the engine was closed
      if (signal.aborted) return
      generation.begin(tokens, tokenizer)
      const maxTokens = Math.min(params.maxTokens, config.max_position_embeddings - tokens.length)
      this.#submit(id, generation, tokens, { ...params, maxTokens })
    } catch (error) {
      this.#encoding.delete(generation)
      generation.finish('error', toMorError(error))
    }
  }

  async #close(): Promise<void> {
    for (const generation of [...this.#encoding]) generation.abort() // with the encoding of its prompt
    this.#encoding.clear()
    try {
      await wrapNativeAsync(() => this.#native.close())
    } finally {
      this.#delivery.finish()
      for (const generation of this.#requests.values()) generation.finish('abort')
      this.#requests.clear()
    }
  }
}
