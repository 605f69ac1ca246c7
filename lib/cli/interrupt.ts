// Turns Ctrl-C, other signals and a standard output that fails into an AbortSignal, so that a command can stop cleanly.
import { constants } from 'node:os'
import { Interruption } from './failure.js'
import { onOutputFailure } from './standard_streams.js'

/**
 * A terminal sends Ctrl-C to all its processes, and some send it on: npx to what it runs, and a launcher such as MPICH's to its ranks,
 * across machines. So a process may get it twice, and signals that are no further apart than this are one.
 */
const GRACE_MS = 200
const RANK_GRACE_MS = 1000

/**
 * Runs `work` with a signal that SIGINT, SIGTERM, SIGHUP or a failing standard output aborts, with an Interruption as its
 * reason. A second SIGINT or SIGTERM ends the process at once, as usual, unless it comes within 0.2 seconds.
 * @param options.isRank whether a launcher started the process, as one of several: then within a second
 * @param options.needsOutput false: the command goes on when nobody reads what it writes
 * @param options.otherSignals that stop the command, too, however often they come
 */
export async function withInterrupt<T>(
  work: (signal: AbortSignal) => Promise<T>,
  {
    isRank = false,
    needsOutput = true,
    otherSignals = [],
  }: { isRank?: boolean; needsOutput?: boolean; otherSignals?: NodeJS.Signals[] } = {},
): Promise<T> {
  const controller = new AbortController()
  const stop = () => stopBy('SIGINT', 130)
  const terminate = () => stopBy('SIGTERM', 143)
  // A terminal that is closed sends SIGHUP, its shell perhaps another: that is not somebody who has lost patience.
  const gentle = (['SIGHUP', ...otherSignals] as const).map((name) => {
    const abort = () => controller.abort(new Interruption(`stopped by ${name}`, 128 + constants.signals[name]))
    return { name, abort }
  })
  let grace: NodeJS.Timeout | undefined
  const stopBy = (name: string, exitCode: number) => {
    controller.abort(new Interruption(`stopped by ${name}`, exitCode))
    grace ??= setTimeout(ignoreNoMore, isRank ? RANK_GRACE_MS : GRACE_MS).unref()
  }
  const ignoreNoMore = () => {
    process.off('SIGINT', stop)
    process.off('SIGTERM', terminate)
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', terminate)
  for (const { name, abort } of gentle) process.on(name, abort)
  const unsubscribe = needsOutput ? onOutputFailure((failure) => controller.abort(failure)) : () => {}
  try {
    return await work(controller.signal)
  } finally {
    clearTimeout(grace)
    ignoreNoMore()
    for (const { name, abort } of gentle) process.off(name, abort)
    unsubscribe()
  }
}
