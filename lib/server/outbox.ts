// Lets many streams write in turns, so that hundreds of them with something to say do not hold up the event loop.
// Must not know: what is written.

/** Milliseconds of writing at a time; whatever else waits for the event loop comes between. */
const TURN_MS = 1

export class Outbox {
  /** In the order in which they were added. */
  readonly #writers = new Set<() => void>()
  #scheduled = false

  /** Calls `write` once, soon; one that waits already is not added again. */
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
