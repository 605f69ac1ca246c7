// What single threads of this process did with their time, as Linux counts it.
import { readdirSync, readFileSync } from 'node:fs'

/** The ids of all threads, the oldest first. */
export function threadIds(): number[] {
  return readdirSync('/proc/self/task')
    .map(Number)
    .sort((a, b) => a - b)
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
