// The model that requests are given, and those that were replaced while requests still use them.
import type { ResolvedServerOptions, ServedEngine } from './options.js'

export class ServedModels {
  #current: ResolvedServerOptions
  /** How many requests use each, the current one among them. */
  readonly #users = new Map<ResolvedServerOptions, number>()
  readonly #waiting = new Map<ResolvedServerOptions, () => void>()

  constructor(first: ResolvedServerOptions) {
    this.#current = first
  }

  /** What the next request is given. */
  get current(): ResolvedServerOptions {
    return this.#current
  }

  /** Whether the engine serves requests, or still ends those of a model that was replaced. */
  isInUse(engine: ServedEngine): boolean {
    return [this.#current, ...this.#users.keys()].some((options) => options.engine === engine)
  }

  /** Lets a request use the current model until `work` has ended. */
  async use<T>(work: (options: ResolvedServerOptions) => Promise<T>): Promise<T> {
    const options = this.#current
    this.#users.set(options, (this.#users.get(options) ?? 0) + 1)
    try {
      return await work(options)
    } finally {
      const left = this.#users.get(options)! - 1
      this.#users.set(options, left)
      if (left === 0) {
        this.#users.delete(options)
        this.#waiting.get(options)?.()
      }
    }
  }

  /** Gives `next` to all requests from now on. Resolves when no request uses the one before. */
  async replace(next: ResolvedServerOptions): Promise<void> {
    const before = this.#current
    this.#current = next
    if (this.#users.has(before)) await new Promise<void>((resolve) => this.#waiting.set(before, resolve))
    this.#waiting.delete(before)
  }
}
