// Watches standard output and standard error: their reader may go away, as in `mor train … | head`, or their disk be full.
import { Interruption } from './failure.js'

/** The exit code that shells report for a process ended by SIGPIPE, which Node turns into an error. */
export const OUTPUT_CLOSED = 141

let failure: Interruption | null = null
const listeners = new Set<(failure: Interruption) => void>()

/** Call once, before anything is written. From then on a failing stream raises no exception. */
export function watchStreams(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (failure !== null) return
    failure =
      error.code === 'EPIPE'
        ? new Interruption('nobody reads standard output any more', OUTPUT_CLOSED)
        : new Interruption(`standard output cannot be written: ${error.message}`, 1)
    for (const listener of listeners) listener(failure)
  })
  process.stderr.on('error', () => {}) // There is nobody left to tell.
}

/** Why nothing can be written to standard output, or null. */
export function outputFailure(): Interruption | null {
  return failure
}

/** Calls `listener` when standard output fails, at once if it has. Returns a function that takes the listener away. */
export function onOutputFailure(listener: (failure: Interruption) => void): () => void {
  if (failure !== null) listener(failure)
  listeners.add(listener)
  return () => listeners.delete(listener)
}
