// Starts processes by the MPI launchers of this machine.
import { type ChildProcess, execFile, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
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
  /** Of all ranks: what they write on both streams. Rejects if they do not end in time. */
  ended: Promise<Ended>
  /** Calls `listener` with each line of standard output: what the ranks write, and perhaps the launcher. */
  onLine(listener: (line: string) => void): void
  /** Throws if there is no such rank, because it has not started or has ended. */
  kill(rank: number, signal: NodeJS.Signals): void
}

/**
 * @param size one rank is started without the launcher: Open MPI's would give it a terminal
 * @param args for Node
 * @param limitMs after which the launcher is told to end them all; default: never
 */
export function startRanks(
  { program, options, rank: variable }: MpiLauncher,
  size: number,
  args: readonly string[],
  limitMs = 0,
): RunningRanks {
  const id = randomUUID()
  const launched = size === 1 ? [] : [program, ...options, '-n', String(size)]
  const [command, ...words] = [...launched, process.execPath, ...args]
  const env = { ...process.env, MOR_TEST_RANKS: id }
  let child!: ChildProcess
  const ended = new Promise<Ended>((resolve, reject) => {
    child = execFile(command!, words, { env, maxBuffer: 2 ** 26, timeout: limitMs }, (error, stdout, stderr) => {
      if (error?.killed) reject(new Error(`the ranks did not end within ${limitMs} ms: ${stderr}`))
      else resolve({ code: child.exitCode!, stdout, stderr })
    })
  })
  const lines = createInterface({ input: child.stdout! })
  return {
    ended,
    onLine: (listener) => lines.on('line', listener),
    kill(rank, signal) {
      const variables = size === 1 ? [] : [`${variable}=${rank}`]
      process.kill(processOf([`MOR_TEST_RANKS=${id}`, ...variables]), signal)
    },
  }
}

/** The process of Node whose environment has these variables. What it starts has them too, but is another program. */
function processOf(variables: readonly string[]): number {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const [environment, words] = ['environ', 'cmdline'].map((file) =>
        readFileSync(`/proc/${name}/${file}`, 'utf8').split('\0'),
      )
      const has = variables.every((variable) => environment!.includes(variable))
      if (has && words![0] === process.execPath) return Number(name)
    } catch {
      // It has ended, or is somebody else's.
    }
  }
  throw new Error(`no process has ${variables.join(' and ')}`)
}
