// `mor` on several ranks under Open MPI's mpirun, of which each can be killed.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { command } from '../lib/cli/process.js'

const launcher = 'mpirun.openmpi'

export const canLaunchRanks = spawnSync(launcher, ['--version']).error === undefined

export interface RanksProcess {
  /** Called with every line that a rank writes to standard output. */
  onLine(listener: (line: string) => void): void
  /** Kills one rank, if it has started. */
  kill(rank: number): void
  /** What all of them wrote to standard error, and the exit code of the launcher, null after a signal. Rejects if they do not end in time. */
  ended: Promise<{ code: number | null; stderr: string }>
}

/**
 * @param ranks one is started without the launcher
 * @param limitMs after which they are all killed
 */
export function startRanks(ranks: number, args: readonly string[], limitMs: number): RanksProcess {
  const folder = mkdtempSync(join(tmpdir(), 'mor-ranks-'))
  // The process of a rank keeps the id that it has here.
  const script = `echo $$ > ${folder}/\${OMPI_COMM_WORLD_RANK:-0}; exec "$@"`
  const options = ranks === 1 ? [] : [launcher, '-n', String(ranks), '--oversubscribe', '--allow-run-as-root']
  const [program, ...rest] = [...options, 'sh', '-c', script, 'sh', process.execPath, ...command(args)]
  const child = spawn(program!, rest)
  const listeners: ((line: string) => void)[] = []
  let line = ''
  child.stdout.on('data', (text) => {
    const lines = (line + String(text)).split('\n')
    line = lines.pop()!
    for (const whole of lines) for (const listener of listeners) listener(whole)
  })
  let stderr = ''
  child.stderr.on('data', (text) => {
    stderr += String(text)
  })
  const kill = (rank: number) => {
    try {
      process.kill(Number(readFileSync(join(folder, String(rank)), 'utf8')), 'SIGKILL')
    } catch {
      // It has not started, or has ended.
    }
  }
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve, reject) => {
    const limit = setTimeout(() => {
      for (let rank = 0; rank < ranks; rank++) kill(rank)
      reject(new Error(`the ranks did not end within ${limitMs} ms: ${stderr}`))
    }, limitMs)
    child.on('close', (code) => {
      clearTimeout(limit)
      rmSync(folder, { recursive: true })
      resolve({ code, stderr })
    })
  })
  return { onLine: (listener) => listeners.push(listener), kill, ended }
}
