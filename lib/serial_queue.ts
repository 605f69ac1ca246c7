// Runs asynchronous tasks one after another, in the order of their calls, with abort before and during.
// Must not know what the tasks do.
import { abortError, throwIfAborted } from './errors.js'

export interface TaskOptions {
  signal?: AbortSignal | undefined
  /** Names the task in the message of an abort, as in "evaluating". */
  what: string
  /**
   * Whether a task that has started may be given up: its promise rejects at once and its result is dropped. If not, a
   * started task is always finished and reported, so that "aborted" means "nothing changed".
   */
  interruptible: boolean
}

export class SerialQueue {
  #tail: Promise<unknown> = Promise.resolve()

  /** @throws {MorError} ABORTED, or what `task` throws. A failed task does not stop the ones behind it. */
  run<T>(task: () => Promise<T>, { signal, what, interruptible }: TaskOptions): Promise<T> {
    let started = false
    const result = this.#tail.then(() => {
      throwIfAborted(signal, what)
      started = true
      return task()
    })
    this.#tail = result.catch(() => undefined)
    return signal === undefined ? result : untilAborted(result, signal, what, () => interruptible || !started)
  }

  /** Resolves when every task queued so far has ended. */
  async idle(): Promise<void> {
    await this.#tail
  }
}

/** `promise`, unless `signal` aborts first at a moment when `mayGiveUp()`. */
export function untilAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  what: string,
  mayGiveUp: () => boolean = () => true,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      if (mayGiveUp()) reject(abortError(signal, what))
    }
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
