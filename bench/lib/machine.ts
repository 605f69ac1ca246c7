// Describes the machine that a bench runs on.
import { availableParallelism, cpus, release, totalmem, type } from 'node:os'
import { forcedInstructionSet, instructionSet } from './instruction_set.js'

/** The number of threads of every contender. */
export const threads = availableParallelism()

export function machine(): string {
  const memory = Math.round(totalmem() / 2 ** 30)
  const set = `${instructionSet()}${forcedInstructionSet() === undefined ? '' : ' (forced)'}`
  return `${cpus()[0]?.model ?? 'unknown CPU'}, ${set}, ${threads} threads, ${memory} GiB, ${type()} ${release()}, Node ${process.versions.node}`
}
