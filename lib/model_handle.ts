// What Model, Trainer and Engine share of one native model: the addon object, its queue and whether it still lives.
// Must not be exported from the package.
import type { ResolvedConfig } from './config.js'
import { MorError, wrapNativeAsync } from './errors.js'
import type { DType, NativeAddon, NativeModel } from './native.js'
import { SerialQueue, type TaskOptions } from './serial_queue.js'

export class ModelHandle {
  readonly #queue = new SerialQueue()
  #disposed = false

  constructor(
    readonly addon: NativeAddon,
    readonly native: NativeModel,
    readonly config: ResolvedConfig,
    readonly dtype: DType,
  ) {}

  /** @throws {MorError} DISPOSED */
  assertAlive(): void {
    if (this.#disposed) throw new MorError('DISPOSED', 'the model is disposed; create or load another')
  }

  /**
   * Runs `task` after everything that was asked of this model before, so that a step never changes weights that a
   * forward pass or a save is reading.
   */
  async run<T>(task: () => Promise<T>, options: TaskOptions): Promise<T> {
    this.assertAlive()
    const guarded = () => {
      this.assertAlive()
      return wrapNativeAsync(task)
    }
    return this.#queue.run(guarded, options)
  }

  /** Gives the memory back; what is running or queued rejects with DISPOSED. Resolves when all of it has ended. */
  async dispose(): Promise<void> {
    if (!this.#disposed) {
      this.#disposed = true
      this.native.dispose()
    }
    await this.#queue.idle()
  }

  idle(): Promise<void> {
    return this.#queue.idle()
  }
}
