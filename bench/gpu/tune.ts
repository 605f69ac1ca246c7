// The part `tune`: every tile that a kernel could have, at the shapes that matter; the file is what cuda/tuning.h is made of.
import { join } from 'node:path'
import { runCases } from '../lib/cases.js'
import { findingProgram } from './findings.js'
import type { Part } from './part.js'

/** Seconds of one shape with all its tiles. */
const caseSeconds = 60

export async function tune({ report, deadline, device, rounds, programs }: Part): Promise<void> {
  if (device === 'cpu') return report.remark('the choice of tiles has no dry run')
  const program = join(programs, 'bench', 'gpu', 'gpu_tune')
  const words = (done: readonly string[]) => [
    program,
    '--device',
    device,
    '--samples',
    `${rounds}`,
    '--first',
    `${done.length}`,
  ]
  await runCases(findingProgram(report, { name: 'tune', seconds: caseSeconds, words }), deadline, report)
}
