// Starts workers: processes of Node that measure one case each through the public API.
import { join } from 'node:path'
import { runCases } from '../lib/cases.js'
import { type Facts, findingProgram } from './findings.js'
import type { Part } from './part.js'
import type { WorkName } from './worker.js'

export interface Job {
  work: WorkName
  /** In messages. */
  name: string
  /** The most that may pass between two of its lines. */
  seconds: number
  request: object
}

/** Node, with what it needs to run TypeScript where this file is. */
const node = __filename.endsWith('.ts') ? [process.execPath, '--import', 'tsx'] : [process.execPath]
const worker = join(__dirname, __filename.endsWith('.ts') ? 'worker.ts' : 'worker.js')

/** The facts that the worker found, as far as it came; its figures and failures are in the report too. */
export async function runWorker({ report, deadline, device, rounds }: Part, job: Job): Promise<Facts> {
  const facts: Facts = {}
  const request = JSON.stringify({ case: job.name, ...job.request, device, rounds })
  const words = (done: readonly string[]) => (done.length > 0 ? null : [...node, worker, job.work, request])
  await runCases(findingProgram(report, { name: job.name, seconds: job.seconds, words }, facts), deadline, report)
  return facts
}
