// Turns Ctrl-C into an AbortSignal, so that a command can stop cleanly.

/**
 * Runs `work` with a signal that the first SIGINT or SIGTERM aborts. A second one ends the process at once, as usual.
 */
export async function withInterrupt<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const interrupt = () => {
    release()
    controller.abort()
  }
  const release = () => {
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', interrupt)
  }
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', interrupt)
  try {
    return await work(controller.signal)
  } finally {
    release()
  }
}
