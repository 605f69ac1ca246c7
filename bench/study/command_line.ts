// Runs `mor` as a child process, as a user would.
import { spawn } from 'node:child_process'
import { join } from 'node:path'

/** The root of the repository. */
export const root = join(__dirname, '..', '..')

/** A command of `mor` that failed, or that was stopped. */
export class CommandFailed extends Error {}

/**
 * Resolves with the lines of its standard output, which must be JSON. The child has a process group of its own, so that Ctrl-C reaches
 * it by `abort` alone: a second signal would end it before it has saved.
 * @param onLine receives each line as it comes
 * @throws {CommandFailed} if it ends with anything but 0
 */
export function mor(
  args: readonly string[],
  abort: AbortSignal,
  onLine: (line: Record<string, unknown>) => void = () => {},
): Promise<Record<string, unknown>[]> {
  const child = spawn(process.execPath, [require.resolve('tsx/cli'), join(root, 'lib/cli/main.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  const stop = () => child.kill('SIGTERM')
  abort.addEventListener('abort', stop, { once: true })
  const lines: Record<string, unknown>[] = []
  let rest = ''
  child.stdout.setEncoding('utf8')
  child.stdout.on('data', (text: string) => {
    const parts = (rest + text).split('\n')
    rest = parts.pop()!
    for (const part of parts.filter(Boolean)) {
      const line = JSON.parse(part) as Record<string, unknown>
      lines.push(line)
      onLine(line)
    }
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => {
      abort.removeEventListener('abort', stop)
      if (code === 0 && !abort.aborted) return resolve(lines)
      reject(new CommandFailed(`mor ${args.join(' ')} ended with ${signal ?? code}`))
    })
  })
}
