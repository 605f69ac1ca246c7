// Starts processes by the MPI launchers of this machine.
import { execFile, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import type { Ended } from './cli/process.js'

export interface MpiLauncher {
  /** As Debian names it, since the plain name is that of whichever was installed first. */
  program: string
  options: string[]
  package: string
  /** The environment variable that holds the rank. */
  rank: string
}

export const openMpi: MpiLauncher = {
  program: 'mpirun.openmpi',
  // It refuses root, and more ranks than cores.
  options: ['--allow-run-as-root', '--oversubscribe'],
  package: 'openmpi-bin',
  rank: 'OMPI_COMM_WORLD_RANK',
}
export const mpich: MpiLauncher = { program: 'mpiexec.mpich', options: [], package: 'mpich', rank: 'PMI_RANK' }

/** Says what to install where it is missing. */
export function isInstalled({ program, package: name }: MpiLauncher): boolean {
  if (spawnSync(program, ['--version']).error === undefined) return true
  process.stderr.write(`SKIPPED: ranks under ${program}: it is not installed: apt-get install ${name}\n`)
  return false
}

/** Ranks that run. */
export interface RunningRanks {
  /** Of all ranks: what they write on both streams. */
  ended: Promise<Ended>
  /** Calls `listener` with each piece of what rank 0 writes. */
  onOutput(listener: (text: string) => void): void
  kill(rank: number, signal: NodeJS.Signals): void
}

/** @param args for Node */
export function startRanks(
  { program, options, rank: variable }: MpiLauncher,
  size: number,
  args: readonly string[],
): RunningRanks {
  const id = randomUUID()
  const command = [...options, '-n', String(size), process.execPath, ...args]
  const env = { ...process.env, MOR_TEST_RANKS: id }
  let onEnd: (ended: Ended) => void
  const ended = new Promise<Ended>((resolve) => {
    onEnd = resolve
  })
  const child = execFile(program, command, { env, maxBuffer: 2 ** 26 }, (_error, stdout, stderr) =>
    onEnd({ code: child.exitCode!, stdout, stderr }),
  )
  return {
    ended,
    onOutput: (listener) => child.stdout!.on('data', listener),
    kill: (rank, signal) => process.kill(processOf([`MOR_TEST_RANKS=${id}`, `${variable}=${rank}`]), signal),
  }
}

/** The process whose environment has these variables. */
function processOf(variables: readonly string[]): number {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const environment = readFileSync(`/proc/${name}/environ`, 'utf8').split('\0')
      if (variables.every((variable) => environment.includes(variable))) return Number(name)
    } catch {
      // It has ended, or is somebody else's.
    }
  }
  throw new Error(`no process has ${variables.join(' and ')}`)
}
