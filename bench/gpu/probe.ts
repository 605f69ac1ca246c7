// The part `probe`: what this machine has, and what a GPU can do at most, measured by small programs that share no code with
// the device: products in registers, launches, and bandwidths.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { measureCopy } from './decode.js'
import { runGpuProgram } from './gpu_program.js'
import type { Part } from './part.js'

/** Seconds of one probe. */
const caseSeconds = 30

/** What a later part, or work on this machine, may need. */
const tools: Record<string, readonly string[]> = {
  nvidia_smi: [
    'nvidia-smi',
    '--query-gpu=name,driver_version,vbios_version,clocks.max.sm,power.limit,ecc.mode.current',
    '--format=csv',
  ],
  nvcc: ['nvcc', '--version'],
  compiler: ['g++', '--version'],
  cmake: ['cmake', '--version'],
  python: ['python3', '-c', 'import sys, torch; print(sys.version, torch.__version__, torch.version.cuda)'],
  xz: ['xz', '--version'],
  compute_sanitizer: ['compute-sanitizer', '--version'],
}

/** What a program says; null where it is not there. */
function said([command, ...words]: readonly string[]): string | null {
  const { status, stdout } = spawnSync(command!, words, { encoding: 'utf8', timeout: 20_000 })
  return status === 0 ? stdout.trim() : null
}

export async function probe(part: Part): Promise<void> {
  const { report, device } = part
  report.fact('processor', `${cpus().length} x ${cpus()[0]?.model}`)
  for (const [name, words] of Object.entries(tools)) report.fact(name, said(words))
  const driver = '/proc/driver/nvidia/version'
  report.fact('kernel_module', existsSync(driver) ? readFileSync(driver, 'utf8').trim() : null)
  await measureCopy(part)
  if (device === 'cpu') return report.remark('the probes of a GPU have no dry run')
  await runGpuProgram(part, 'probes', caseSeconds)
}
