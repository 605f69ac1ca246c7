// Runs a program and gives its lines as they come, within limits of time: whatever it started ends with it.
import { type ChildProcess, spawn } from 'node:child_process'
import { basename } from 'node:path'
import { createInterface } from 'node:readline'

export interface LineOptions {
  /** The most that the program may take. */
  seconds: number
  /** The most that may pass between two lines of its output. */
  silence: number
  /** Variables on top of this process's own. */
  environment?: Record<string, string>
  /** Ends the program. */
  signal?: AbortSignal
  /** A line of standard output or, with `error`, of standard error; the answer `end` ends the program. */
  onLine(line: string, error: boolean): 'end' | undefined
}

/** How a program ended. */
export interface Ending {
  /** Whether its exit status was 0. */
  ok: boolean
  /** Whether it was ended, by a signal or because its time was over, and did not exit by itself. */
  killed: boolean
  /** The end of a sentence. */
  why: string
}

const running = new Set<ChildProcess>()

/** Ends the program with all that it started, which are one process group. */
function killGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended by itself in the meantime.
  }
}

process.on('exit', () => running.forEach(killGroup))

/** Rejects only if `onLine` throws, and ends the program then too. */
export async function runLines(words: readonly string[], options: LineOptions): Promise<Ending> {
  const { seconds, silence, environment = {}, signal: abort, onLine } = options
  const [command, ...rest] = words
  // This process may be killed itself: then coreutils' timeout ends the program, a little later than this process would.
  const limited = ['--signal', 'KILL', `${Math.ceil(seconds) + 5}`, command!, ...rest]
  const child = spawn('timeout', limited, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // makes a process group
    env: { ...process.env, ...environment },
  })
  running.add(child)
  let late = ''
  let error: unknown
  const end = (why: string): void => {
    late ||= why
    killGroup(child)
  }
  const total = setTimeout(() => end(`took longer than ${seconds.toFixed(0)} s`), 1000 * seconds)
  const quiet = setTimeout(() => end(`said nothing for ${silence} s`), 1000 * silence)
  const onAbort = (): void => end('was ended')
  abort?.addEventListener('abort', onAbort)
  const take = async (stream: NodeJS.ReadableStream, isError: boolean): Promise<void> => {
    for await (const line of createInterface({ input: stream })) {
      quiet.refresh()
      try {
        if (error === undefined && onLine(line, isError) === 'end') end('was ended')
      } catch (thrown) {
        error = thrown
        end('was ended')
      }
    }
  }
  const exit = new Promise<[number | null, string | null]>((resolve) => {
    child.once('error', () => resolve([127, null])) // there is no `timeout`
    child.once('close', (status, signal) => resolve([status, signal]))
  })
  const [[status, signal]] = await Promise.all([exit, take(child.stdout, false), take(child.stderr, true)])
  clearTimeout(total)
  clearTimeout(quiet)
  abort?.removeEventListener('abort', onAbort)
  running.delete(child)
  if (error !== undefined) throw error
  return endingOf(basename(command!), status, signal, late)
}

/** `timeout` exits with 128 plus the number of the signal that ended the program, as a shell does. */
function endingOf(name: string, status: number | null, signal: string | null, late: string): Ending {
  if (late !== '') return { ok: false, killed: true, why: `${name} ${late}` }
  if (signal !== null) return { ok: false, killed: true, why: `${name} was ended by ${signal}` }
  if (status! > 128) return { ok: false, killed: true, why: `${name} was ended by signal ${status! - 128}` }
  if (status === 127 || status === 126) return { ok: false, killed: false, why: `${name} could not be started` }
  return { ok: status === 0, killed: false, why: `${name} ended with exit code ${status}` }
}
