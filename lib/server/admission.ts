// Counts the completions under way: refuses those beyond the limit, and ends all of them when the server drains.
import { ApiError, clientGone, shuttingDown } from './api_error.js'

/** One for all: Node would make another, with its stack, for every request that ends. */
const gone = clientGone()

/** What the server keeps for one request while it is under way. */
export interface Admitted {
  /** Aborts when the client has disconnected or the server's time for draining is over, with the ApiError that says so. */
  readonly signal: AbortSignal
  /** The client has disconnected, or has its answer. */
  abort(): void
  release(): void
}

export class Admission {
  readonly #limit: number
  readonly #admitted = new Set<AbortController>()
  /** Called when no request is under way. */
  readonly #waiters: (() => void)[] = []
  #completions = 0
  #draining = false

  /** @param limit most completions at once */
  constructor(limit: number) {
    this.#limit = limit
  }

  get draining(): boolean {
    return this.#draining
  }

  /**
   * @param completions how many the request asks for
   * @throws {ApiError} 400 for more than the limit, 429 if they do not fit at the moment, 503 while draining
   */
  admit(completions: number): Admitted {
    if (this.#draining) throw shuttingDown()
    if (completions > this.#limit) {
      throw new ApiError(
        400,
        `the request asks for ${completions} completions; this server takes at most ${this.#limit} at once`,
        'too_many_completions',
      )
    }
    if (this.#completions + completions > this.#limit) {
      throw new ApiError(
        429,
        `the queue is full: ${this.#completions} of ${this.#limit} completions are under way; try again in a moment`,
        'queue_full',
      )
    }
    const controller = new AbortController()
    this.#admitted.add(controller)
    this.#completions += completions
    return {
      signal: controller.signal,
      abort: () => controller.abort(gone),
      release: () => {
        if (!this.#admitted.delete(controller)) return
        this.#completions -= completions
        if (this.#admitted.size === 0) for (const wake of this.#waiters.splice(0)) wake()
      },
    }
  }

  /** Refuses every request from now on. */
  drain(): void {
    this.#draining = true
  }

  abortAll(): void {
    for (const controller of this.#admitted) controller.abort(shuttingDown())
  }

  /** Resolves when no request is under way. */
  async idle(): Promise<void> {
    if (this.#admitted.size > 0) await new Promise<void>((resolve) => this.#waiters.push(resolve))
  }
}
