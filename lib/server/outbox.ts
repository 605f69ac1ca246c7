// Lets many streams write in turns, so that hundreds of them do not block the event loop.

/** Milliseconds of writing in one go, between which the event loop serves everything else. */
const TURN_MS = 1

export class Outbox {
  /** Writers in the order in which they were added. */
  readonly #writers = new Set<() => void>()
  #scheduled = false

  /** Calls `write` once, soon. A function that already waits is not added again. */
  add(write: () => void): void {
    this.#writers.add(write)
    if (!this.#scheduled) this.#schedule()
  }

  #schedule(): void {
    this.#scheduled = true
    setImmediate(() => this.#turn())
  }

  #turn(): void {
    this.#scheduled = false
    const end = performance.now() + TURN_MS
    for (const write of this.#writers) {
      this.#writers.delete(write)
      write()
      if (performance.now() >= end) break
    }
    if (this.#writers.size > 0) this.#schedule()
  }
}
