// Describes the machine that a bench runs on.
import { availableParallelism, cpus, release, totalmem, type } from 'node:os'

/** The number of threads of every contender. */
export const threads = availableParallelism()

export function machine(): string {
  const memory = Math.round(totalmem() / 2 ** 30)
  return `${cpus()[0]?.model ?? 'unknown CPU'}, ${threads} threads, ${memory} GiB, ${type()} ${release()}, Node ${process.versions.node}`
}
