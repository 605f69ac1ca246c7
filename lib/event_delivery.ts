// Hands the events of the native engine to their requests, some at a time, so that a step of many requests does not block
// the event loop while all who wait for tokens go on.
import { errorCodes, MorError } from './errors.js'
import type { Generation, TokenLogprob } from './generation.js'
import { eventKind, eventStride } from './native/engine.js'

/** Events of a turn of the event loop, few because all that readers do with a token belongs to the turn. */
const TURN_EVENTS = 4

interface Batch {
  /** See `eventStride`. */
  events: Float64Array
  /** Of those events that have one, in their order. */
  messages: string[]
  next: number
  nextMessage: number
}

export class EventDelivery {
  readonly #requests: Map<number, Generation>
  readonly #batches: Batch[] = []
  #topLogprobs: TokenLogprob[] = []
  #scheduled = false

  /** @param requests by id; one that has ended is deleted, and events of one that is not there are dropped */
  constructor(requests: Map<number, Generation>) {
    this.#requests = requests
  }

  /** Who was aborted learns it at once: the tokens that wait to be delivered are wanted no more. */
  receive(events: Float64Array, messages: string[]): void {
    for (let i = 0; i < events.length; i += eventStride) if (events[i + 1] === eventKind.abort) this.#end(events[i]!)
    this.#batches.push({ events, messages, next: 0, nextMessage: 0 })
    if (!this.#scheduled) this.#turn()
  }

  #end(id: number): void {
    const generation = this.#requests.get(id)
    this.#requests.delete(id)
    generation?.finish('abort')
  }

  /** Delivers all that is left. */
  finish(): void {
    while (this.#batches.length > 0) this.#deliver()
  }

  #turn(): void {
    this.#deliver()
    this.#scheduled = this.#batches.length > 0
    if (this.#scheduled) setImmediate(() => this.#turn())
  }

  #deliver(): void {
    for (let left = TURN_EVENTS; left > 0 && this.#batches.length > 0; ) {
      const batch = this.#batches[0]!
      if (batch.next + eventStride > batch.events.length) {
        this.#batches.shift()
        continue
      }
      this.#hand(batch)
      left--
    }
  }

  /** Hands one event to its request. */
  #hand(batch: Batch): void {
    const { events, next: i } = batch
    batch.next += eventStride
    const id = events[i]!
    const kind = events[i + 1]!
    const token = events[i + 2]!
    const message = kind === eventKind.error ? batch.messages[batch.nextMessage++] : undefined
    const generation = this.#requests.get(id)
    if (generation === undefined) {
      this.#topLogprobs = [] // of a token that is dropped
      return
    }
    if (kind === eventKind.top) {
      this.#topLogprobs.push({ token, logprob: events[i + 4]! })
    } else if (kind === eventKind.prefill) {
      generation.began(events[i + 4]!)
    } else if (kind === eventKind.token || kind === eventKind.prompt || kind === eventKind.stop) {
      const topLogprobs = this.#topLogprobs
      const listed = topLogprobs.length > 0
      if (listed) this.#topLogprobs = []
      const reported = { token, depth: events[i + 3]!, logprob: events[i + 4]!, ...(listed && { topLogprobs }) }
      if (kind === eventKind.stop) this.#requests.delete(id)
      if (kind === eventKind.token) generation.push(reported)
      else if (kind === eventKind.prompt) generation.pushPrompt(reported)
      else generation.stop(reported)
    } else {
      this.#requests.delete(id)
      if (kind === eventKind.length) generation.finish('length')
      else generation.finish('error', errorOfEvent(kind, token, message))
    }
  }
}

function errorOfEvent(kind: number, codeIndex: number, message: string | undefined): MorError {
  const code = errorCodes[codeIndex]
  if (message === undefined || code === undefined) {
    return new MorError('INTERNAL', `the native engine sent an event of kind ${kind} with value ${codeIndex}`)
  }
  return new MorError(code, message)
}
