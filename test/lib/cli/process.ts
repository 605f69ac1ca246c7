// Runs `mor` from its sources as a process of its own.
import { type ChildProcess, execFile } from 'node:child_process'
import { join } from 'node:path'

export interface Ended {
  code: number
  stdout: string
  stderr: string
}

/** Arguments for Node to run `mor` with `args`. */
export function command(args: readonly string[]): string[] {
  return ['--import', 'tsx', join('lib', 'cli', 'main.ts'), ...args]
}

/** @param onStart gets the process, to send it signals or read its output */
export function morProcess(args: readonly string[], onStart: (child: ChildProcess) => void): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, command(args), { maxBuffer: 2 ** 26 }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode!, stdout, stderr }),
    )
    onStart(child)
  })
}

export function mor(...args: string[]): Promise<Ended> {
  return morProcess(args, () => {})
}
