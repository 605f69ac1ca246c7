// Loads the weights of a running server again when the process is told to, while the ones before go on serving.
import { toMorError } from '../errors.js'
import type { ModelServer } from '../server/index.js'
import type { Output } from './output.js'
import { type ServedCheckpoint, tryOut } from './served_checkpoint.js'

export class Reloader {
  readonly #app: ModelServer
  readonly #load: () => Promise<ServedCheckpoint>
  readonly #output: Output
  #current: ServedCheckpoint
  #running: Promise<void> | null = null
  /** Whether the weights may have changed since the load that runs began. */
  #again = false
  #closed = false

  constructor(app: ModelServer, first: ServedCheckpoint, load: () => Promise<ServedCheckpoint>, output: Output) {
    this.#app = app
    this.#current = first
    this.#load = load
    this.#output = output
  }

  /** Starts a reload, or lets the one that runs be followed by another. */
  readonly reload = (): void => {
    this.#again = true
    this.#running ??= this.#run().finally(() => {
      this.#running = null
    })
  }

  /** Once the server is closed: waits for the reload that runs, and releases what is served. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#running
    await this.#current.close()
  }

  async #run(): Promise<void> {
    while (this.#again && !this.#closed) {
      this.#again = false
      try {
        this.#output.event({ type: 'reloading' }, 'loading the checkpoint again')
        await this.#replace(await this.#load())
        this.#output.event({ type: 'reloaded' }, 'serving the new weights')
      } catch (error) {
        const { code, message } = toMorError(error)
        if (code === 'ABORTED') return // the server is told to stop
        this.#output.event(
          { type: 'reload_failed', code, message },
          `the weights before are still served, because the new ones could not be loaded: ${message}`,
        )
      }
    }
  }

  async #replace(next: ServedCheckpoint): Promise<void> {
    const before = this.#current
    try {
      await tryOut(next)
      // From here on requests get the new model; the promise waits for those of the old one.
      const left = this.#app.replaceModel(next.served)
      this.#current = next
      await left
    } catch (error) {
      this.#current = before
      await next.close()
      throw error
    }
    await before.close()
  }
}
