// The engine of the stand-in addon: it counts on from the last token of each prompt.
import { type ErrorCode, errorCodes } from '../../lib/errors.js'
import { eventKind, type NativeEngine, type NativeGenerateParams } from '../../lib/native/engine.js'
import type { FakeModel } from './fake_model.js'
import { nativeError } from './fake_tensors.js'

/** Generates last + 1, last + 2, … (modulo the vocabulary), one request after another, one token per turn. */
export class FakeEngine implements NativeEngine {
  readonly queue: { id: number; prompt: Int32Array; last: number; left: number; params: NativeGenerateParams }[] = []
  #running = false
  #closed = false

  constructor(
    readonly model: FakeModel,
    readonly onEvents: (events: Float64Array, messages: string[]) => void,
  ) {}

  submit = (id: number, prompt: Int32Array, params: NativeGenerateParams) => {
    if (this.model.disposed) throw nativeError('DISPOSED', 'the model is disposed')
    this.queue.push({ id, prompt, last: prompt.at(-1)!, left: params.maxTokens, params })
    if (!this.#running) setImmediate(this.#tick)
    this.#running = true
  }

  abort = (id: number) => {
    const index = this.queue.findIndex((request) => request.id === id)
    if (index === -1) return
    this.queue.splice(index, 1)
    setImmediate(() => this.emit(id, eventKind.abort))
  }

  stats = () => ({
    running: Math.min(1, this.queue.length),
    waiting: Math.max(0, this.queue.length - 1),
    finished: 0,
    tokensGenerated: 0,
    promptTokens: 0,
    prefixHitTokens: 0,
    steps: 0,
    preemptions: 0,
    kvBlocksTotal: 0,
    kvBlocksUsed: 0,
    kvBlocksCached: 0,
    kvBlocksFree: 0,
    kvBytesTotal: 0,
    kvBytesUsed: 0,
    kvBytesVanilla: 0,
    depthHistogram: [],
  })

  close = async () => {
    this.#closed = true
    await new Promise((resolve) => setImmediate(resolve))
  }

  emit(id: number, kind: number, token = -1, depth = 0, logprob = 0): void {
    this.onEvents(Float64Array.of(id, kind, token, depth, logprob), [])
  }

  /** A token, after as many of the most likely ones as its request asks for: itself, then the next ids. @param kind token or stop */
  #generate({ id, last, left, params }: (typeof this.queue)[number], kind: number): void {
    const { vocabSize, numRecursions } = this.model.config
    const top = Array.from({ length: Math.min(params.topLogprobs, vocabSize) }, (_, i) => {
      return [id, eventKind.top, (last + i) % vocabSize, 0, -0.5 - i]
    })
    const token = [id, kind, last, (last % numRecursions) + 1, -0.5]
    const prefill = left === params.maxTokens ? [[id, eventKind.prefill, -1, 0, 0.001]] : []
    this.onEvents(Float64Array.from([...prefill, ...top, token].flat()), [])
  }

  /** Of every token but the first: the most likely ones where asked for, itself and the next ids, then the token. */
  #reportPrompt({ id, prompt, params: { promptLogprobs } }: (typeof this.queue)[number]): void {
    const events = Array.from(prompt.subarray(1), (token) => [
      ...Array.from({ length: promptLogprobs }, (_, i) => [id, eventKind.top, token + i, 0, -0.25 - i]),
      [id, eventKind.prompt, token, (token % this.model.config.numRecursions) + 1, -0.25],
    ])
    this.onEvents(Float64Array.from(events.flat(2)), [])
  }

  /** Ends several requests with errors in one batch of events. */
  fail(failures: { id: number; code: ErrorCode; message: string }[]): void {
    const events = failures.flatMap(({ id, code }) => [id, eventKind.error, errorCodes.indexOf(code), 0, 0])
    this.onEvents(
      Float64Array.from(events),
      failures.map(({ message }) => message),
    )
  }

  #tick = (): void => {
    const request = this.queue[0]
    this.#running = request !== undefined && !this.#closed
    if (request === undefined || this.#closed) return
    if (request.params.promptLogprobs >= 0 && request.left === request.params.maxTokens) this.#reportPrompt(request)
    request.last = (request.last + 1) % this.model.config.vocabSize
    if (request.left === 0) {
      this.queue.shift()
      this.emit(request.id, eventKind.length)
    } else if (request.params.stop.includes(request.last)) {
      this.queue.shift()
      this.#generate(request, eventKind.stop)
    } else {
      this.#generate(request, eventKind.token)
      if (--request.left === 0) {
        this.queue.shift()
        this.emit(request.id, eventKind.length)
      }
    }
    setImmediate(this.#tick)
  }
}
