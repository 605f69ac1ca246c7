// The part `tune`: every tile that a kernel could have, at the shapes that matter; the file is what cuda/tuning.h is made of.
import { runGpuProgram } from './gpu_program.js'
import type { Part } from './part.js'

/** Seconds of one shape with all its tiles. */
const caseSeconds = 60

export async function tune(part: Part): Promise<void> {
  if (part.device === 'cpu') return part.report.remark('the choice of tiles has no dry run')
  await runGpuProgram(part, 'tune', caseSeconds)
}
