// Turns Ctrl-C, other signals and a standard output that fails into an AbortSignal, so that a command can stop cleanly.
import { Interruption } from './failure.js'
import { onOutputFailure } from './standard_streams.js'

/**
 * Runs `work` with a signal that SIGINT, SIGTERM, SIGHUP or a failing standard output aborts, with an Interruption as its
 * reason. A second SIGINT or SIGTERM ends the process at once, as usual.
 * @param options.needsOutput false: the command goes on when nobody reads what it writes
 */
export async function withInterrupt<T>(
  work: (signal: AbortSignal) => Promise<T>,
  { needsOutput = true }: { needsOutput?: boolean } = {},
): Promise<T> {
  const controller = new AbortController()
  const stop = () => stopBy('SIGINT', 130)
  const terminate = () => stopBy('SIGTERM', 143)
  // A terminal that is closed sends SIGHUP, its shell perhaps another: that is not somebody who has lost patience.
  const hangUp = () => controller.abort(new Interruption('stopped by SIGHUP', 129))
  const stopBy = (name: string, exitCode: number) => {
    process.off('SIGINT', stop)
    process.off('SIGTERM', terminate)
    controller.abort(new Interruption(`stopped by ${name}`, exitCode))
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', terminate)
  process.on('SIGHUP', hangUp)
  const unsubscribe = needsOutput ? onOutputFailure((failure) => controller.abort(failure)) : () => {}
  try {
    return await work(controller.signal)
  } finally {
    process.off('SIGINT', stop)
    process.off('SIGTERM', terminate)
    process.off('SIGHUP', hangUp)
    unsubscribe()
  }
}
