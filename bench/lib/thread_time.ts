// What single threads of this process did with their time, as Linux counts it.
import { opendirSync, readFileSync } from 'node:fs'

/** The ids of all threads, the oldest first. */
export function threadIds(): number[] {
  // The system lists them in this order, which that of their ids need not be; readdirSync would sort the names.
  const folder = opendirSync('/proc/self/task')
  const ids: number[] = []
  for (let entry = folder.readSync(); entry !== null; entry = folder.readSync()) ids.push(Number(entry.name))
  folder.closeSync()
  return ids
}

/** Seconds so far. */
export interface ThreadTime {
  running: number
  /** Ready to run while the processors were given to others. */
  waiting: number
}

export function threadTime(id: number): ThreadTime {
  const [running, waiting] = readFileSync(`/proc/self/task/${id}/schedstat`, 'utf8').split(' ').map(Number)
  return { running: running! / 1e9, waiting: waiting! / 1e9 }
}
