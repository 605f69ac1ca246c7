// Runs the programs of this folder that are made for a GPU alone (gpu_program.h).
import { join } from 'node:path'
import { runCases } from '../lib/cases.js'
import { findingProgram } from './findings.js'
import type { Part } from './part.js'

/** @param seconds the most that one of its cases may take */
export async function runGpuProgram(
  { report, deadline, device, rounds, programs }: Part,
  name: 'probes' | 'tune',
  seconds: number,
): Promise<void> {
  const command = [join(programs, 'bench', 'gpu', `gpu_${name}`), '--device', device, '--samples', `${rounds}`]
  const words = (done: readonly string[]) => [...command, '--first', `${done.length}`]
  await runCases(findingProgram(report, { name, seconds, words }), deadline, report)
}
