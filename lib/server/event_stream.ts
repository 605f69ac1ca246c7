// Server-sent events on one response, at the pace at which the client reads them.
// Must not know: what the events say.
import type { ServerResponse } from 'node:http'
import { cutOff, limitUnread } from './connection.js'
import type { Outbox } from './outbox.js'

/** So much text may wait for its turn to be written before the sender waits too. */
const MAX_WAITING_LENGTH = 16_384

export class EventStream {
  readonly #response: ServerResponse
  readonly #outbox: Outbox
  readonly #stallTimeoutMs: number
  /** Events that wait for their turn. */
  #waiting = ''
  #drained: Promise<void> | null = null

  /** Sends the head at once, with `headers` beside its own. */
  constructor(
    response: ServerResponse,
    headers: Record<string, string | string[]>,
    outbox: Outbox,
    stallTimeoutMs: number,
  ) {
    this.#response = response
    this.#outbox = outbox
    this.#stallTimeoutMs = stallTimeoutMs
    response.writeHead(200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      // For a proxy that would collect the events.
      'x-accel-buffering': 'no',
    })
    response.flushHeaders()
  }

  /**
   * Sends one event in the outbox's next turn. Resolves when there is room for another; when the client is gone, at once.
   * A client that takes nothing for `stallTimeoutMs` is cut off.
   */
  async send(data: string): Promise<void> {
    if (this.#response.destroyed) return
    this.#waiting += `data: ${data}\n\n`
    this.#outbox.add(this.#write)
    if (this.#waiting.length > MAX_WAITING_LENGTH) this.#write()
    await this.#drained
  }

  /**
   * Ends the response once all of it is sent: a server that closes takes a response that has ended for an idle connection.
   * The stall timeout holds until then.
   */
  end(): void {
    if (this.#response.destroyed) return
    limitUnread(this.#response, this.#stallTimeoutMs)
    this.#waiting += 'data: [DONE]\n\n'
    this.#write(() => this.#response.end())
  }

  /** @param done called when what waits now is handed to the operating system */
  readonly #write = (done?: () => void): void => {
    const text = this.#waiting
    this.#waiting = ''
    if (text === '' || this.#response.destroyed) return
    if (!this.#response.write(text, done)) this.#drained ??= this.#waitForRoom()
  }

  #waitForRoom(): Promise<void> {
    const response = this.#response
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        response.off('drain', done).off('close', done)
        this.#drained = null
        resolve()
      }
      const timer = setTimeout(() => cutOff(response), this.#stallTimeoutMs)
      response.once('drain', done).once('close', done)
    })
  }
}
