// Ranks that are promises of one process, in place of processes that a launcher started.
import { RunRanks } from '../../../lib/cli/ranks.js'
import type { Ranks } from '../../../lib/distributed.js'
import type { NativeRanks } from '../../../lib/native/ranks.js'

/** Each gather ends when all ranks have called it. */
function fakeRanks(size: number): Ranks[] {
  let texts: string[] = []
  let waiting: ((texts: string[]) => void)[] = []
  const gather = (rank: number, text: string) =>
    new Promise<string[]>((resolve) => {
      texts[rank] = text
      waiting.push(resolve)
      if (waiting.length < size) return
      for (const each of waiting) each(texts)
      texts = []
      waiting = []
    })
  return Array.from({ length: size }, (_, rank) => {
    const native = {
      requireDevice(device: string) {
        if (device === 'unfit') throw Object.assign(new Error('it does not fit'), { code: 'COMMUNICATION_FAILED' })
      },
    } as NativeRanks
    return { rank, size, native, gather: (text: string) => gather(rank, text) } as Ranks
  })
}

/** What `work` gives or throws on each of some ranks. */
export function onAll<T>(
  size: number,
  work: (ranks: RunRanks, rank: number) => Promise<T>,
  signals: AbortSignal[] = [],
): Promise<T[]> {
  const never = new AbortController().signal
  return Promise.all(fakeRanks(size).map((ranks, rank) => work(new RunRanks(ranks, signals[rank] ?? never), rank)))
}

/** The error of `work`; null: there was none. */
export const thrown = (work: Promise<unknown>) =>
  work.then(
    () => null,
    (error: unknown) => error,
  )
