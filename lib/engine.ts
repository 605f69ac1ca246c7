// The public Engine: requests in, tokens out, as the addon's scheduler decides.
import { Checker } from './check.js'
import { errorCodes, MorError, wrapNative, wrapNativeAsync } from './errors.js'
import { Generation, type TokenLogprob } from './generation.js'
import type { Model } from './model.js'
import { type EngineStats, eventKind, eventStride, type NativeEngine } from './native.js'
import { loadNative } from './native_loader.js'
import { type GenerateOptions, resolveGenerateOptions } from './sampling.js'
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
   * without recursions, but at most a quarter of the device's memory.
   */
  kvCacheBytes?: number
  /** Keep the keys of finished requests for others that begin alike, until room is needed. Default true. */
  prefixCache?: boolean
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
  #nextId = 1
  #closing: Promise<void> | undefined

  /** @throws {MorError} INVALID_ARGUMENT, OUT_OF_MEMORY, DISPOSED */
  constructor(model: Model, options: EngineOptions = {}) {
    const check = Checker.of(options, 'Engine')
    check.onlyKeys(['maxBatchSize', 'prefillChunk', 'kvCacheBytes', 'prefixCache'])
    const native = {
      maxBatchSize: check.integer('maxBatchSize', { min: 1, max: 65536, fallback: 64 }),
      prefillChunk: check.integer('prefillChunk', { min: 1, max: 65536, fallback: 256 }),
      kvCacheBytes: check.integer('kvCacheBytes', { min: 0, max: Number.MAX_SAFE_INTEGER, fallback: 0 }),
      prefixCache: check.boolean('prefixCache', true),
    }
    this.model = model
    // The addon holds this callback as long as the native engine lives. The callback must not hold the Engine, or an engine
    // that was never closed could not be collected.
    const requests = new Map<number, Generation>()
    this.#requests = requests
    this.#native = wrapNative(() =>
      loadNative().createEngine(model.native, native, (events, messages) => deliver(events, messages, requests)),
    )
  }

  /**
   * Starts a request.
   * @param prompt token ids; at least one, and fewer than the context holds.
   * @throws {MorError} at once: INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW, DISPOSED. What goes wrong later
   * is the generation's `finishReason: 'error'`.
   */
  generate(prompt: ArrayLike<number>, options: GenerateOptions): Generation {
    if (this.#closing !== undefined) throw new MorError('DISPOSED', 'the engine is closed; make another')
    const tokens = packPrompt(prompt, this.model.config)
    const params = resolveGenerateOptions(options, this.model.config, tokens.length)
    const id = this.#nextId++
    const generation = new Generation(tokens, () => this.#native.abort(id), {
      topLogprobs: params.topLogprobs > 0,
      promptTokens: params.promptLogprobs >= 0,
    })
    const { signal } = options
    if (signal?.aborted) {
      generation.finish('abort')
      return generation
    }
    this.#requests.set(id, generation)
    try {
      wrapNative(() => this.#native.submit(id, tokens, params))
    } catch (error) {
      this.#requests.delete(id)
      throw error
    }
    if (signal !== undefined) {
      const onAbort = () => generation.abort()
      signal.addEventListener('abort', onAbort, { once: true })
      generation.result.finally(() => signal.removeEventListener('abort', onAbort))
    }
    return generation
  }

  /** @throws {MorError} DISPOSED */
  stats(): EngineStats {
    if (this.#closing !== undefined) throw new MorError('DISPOSED', 'the engine is closed; make another')
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

  async #close(): Promise<void> {
    try {
      await wrapNativeAsync(() => this.#native.close())
    } finally {
      for (const generation of this.#requests.values()) generation.finish('abort')
      this.#requests.clear()
    }
  }
}

/** Hands events (see `eventStride`) to their requests; those of requests that have ended are dropped. */
function deliver(events: Float64Array, messages: string[], requests: Map<number, Generation>): void {
  let nextMessage = 0
  let topLogprobs: TokenLogprob[] = []
  for (let i = 0; i + eventStride <= events.length; i += eventStride) {
    const id = events[i]!
    const kind = events[i + 1]!
    const token = events[i + 2]!
    const message = kind === eventKind.error ? messages[nextMessage++] : undefined
    const generation = requests.get(id)
    if (generation === undefined) continue
    if (kind === eventKind.top) {
      topLogprobs.push({ token, logprob: events[i + 4]! })
      continue
    }
    if (kind === eventKind.token || kind === eventKind.prompt) {
      const listed = topLogprobs.length > 0
      const reported = { token, depth: events[i + 3]!, logprob: events[i + 4]!, ...(listed && { topLogprobs }) }
      if (kind === eventKind.token) generation.push(reported)
      else generation.pushPrompt(reported)
      if (listed) topLogprobs = []
      continue
    }
    requests.delete(id)
    if (kind === eventKind.stop) generation.finish('stop')
    else if (kind === eventKind.length) generation.finish('length')
    else if (kind === eventKind.abort) generation.finish('abort')
    else generation.finish('error', errorOfEvent(kind, token, message))
  }
}

function errorOfEvent(kind: number, codeIndex: number, message: string | undefined): MorError {
  const code = errorCodes[codeIndex]
  if (message === undefined || code === undefined) {
    return new MorError('INTERNAL', `the native engine sent an event of kind ${kind} with value ${codeIndex}`)
  }
  return new MorError(code, message)
}
