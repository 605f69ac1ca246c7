// Server-sent events on one response, at the speed at which the client reads them.
import type { ServerResponse } from 'node:http'
import { cutOff, limitUnread } from './connection.js'
import type { Outbox } from './outbox.js'

/** Characters of text that may wait to be written before the sender must wait too. */
const MAX_WAITING_LENGTH = 16_384

export class EventStream {
  readonly #response: ServerResponse
  readonly #outbox: Outbox
  readonly #stallTimeoutMs: number
  /** Events that wait to be written. */
  #waiting = ''
  #drained: Promise<void> | null = null

  /** Sends the response's head at once, with `headers` added to its own. */
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
      // Tells proxies not to buffer the events.
      'x-accel-buffering': 'no',
    })
    response.flushHeaders()
  }

  /**
   * Sends one event in the outbox's next turn. Resolves when there is room for another, or at once if the client has
   * disconnected. A client that makes no room for `stallTimeoutMs` is disconnected.
   */
  async send(data: string): Promise<void> {
    if (this.#response.destroyed) return
    this.#waiting += `data: ${data}\n\n`
    this.#outbox.add(this.#write)
    if (this.#waiting.length > MAX_WAITING_LENGTH) this.#write()
    await this.#drained
  }

  /**
   * Ends the response after all of it is sent, and not before, since a server that closes would take the connection for
   * idle. The stall timeout applies until then.
   */
  end(): void {
    if (this.#response.destroyed) return
    limitUnread(this.#response, this.#stallTimeoutMs)
    this.#waiting += 'data: [DONE]\n\n'
    this.#write(() => this.#response.end())
  }

  /** @param done called when the events that wait now have been handed to the operating system */
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
      const timer = setTimeout(() => {
        // Behind an earlier answer on the connection the client cannot read this one yet.
        if (response.socket === null) timer.refresh()
        else cutOff(response)
      }, this.#stallTimeoutMs)
      response.once('drain', done).once('close', done)
    })
  }
}
