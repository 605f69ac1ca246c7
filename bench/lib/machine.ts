// Says on what machine a bench ran. Must not know what is measured.
import { availableParallelism, cpus, release, totalmem, type } from 'node:os'

/** Threads that every contender is given. */
export const threads = availableParallelism()

export function machine(): string {
  const memory = Math.round(totalmem() / 2 ** 30)
  return `${cpus()[0]?.model ?? 'unknown CPU'}, ${threads} threads, ${memory} GiB, ${type()} ${release()}, Node ${process.versions.node}`
}
