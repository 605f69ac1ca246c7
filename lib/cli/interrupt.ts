// Turns Ctrl-C, other signals and a standard output that fails into an AbortSignal, so that a command can stop cleanly.
import { constants } from 'node:os'
import { Interruption } from './failure.js'
import { onOutputFailure } from './standard_streams.js'

/**
 * A terminal sends Ctrl-C to all its processes, and a launcher such as MPICH's sends it on to its ranks, so that they get it twice.
 * For a rank, signals that are no further apart than this are one.
 */
const RANK_GRACE_MS = 1000

/**
 * Runs `work` with a signal that SIGINT, SIGTERM, SIGHUP or a failing standard output aborts, with an Interruption as its
 * reason. A second SIGINT or SIGTERM ends the process at once, as usual.
 * @param options.isRank whether a launcher started the process, as one of several: a second signal within a second is not counted
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
    if (isRank) grace ??= setTimeout(ignoreNoMore, RANK_GRACE_MS).unref()
    else ignoreNoMore()
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
