// Builds the C++ programs of the benches, and runs those that print one JSON object a line.
import { execFileSync, spawnSync } from 'node:child_process'
import { basename, join } from 'node:path'

const root = join(__dirname, '..', '..')
const build = join(root, 'build', 'bench')
/** Bytes of each stream that a program may print. */
const maxBuffer = 2 ** 26

/** The path of a built program. @param folder its sources' folder in bench/ */
export function programPath(folder: string, target: string): string {
  return join(build, 'bench', folder, target)
}

/** Builds a program and only what it needs. Returns its path. */
export function buildProgram(folder: string, target: string): string {
  const cmake = (...words: string[]): void => {
    execFileSync('cmake', words, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  }
  cmake('-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '-DMOR_BUILD_BENCH=ON')
  cmake('--build', build, '--target', target, '--parallel')
  return programPath(folder, target)
}

/**
 * @param timeout in milliseconds; 0: none. @param environment variables on top of this process's own.
 * @throws {Error} what the program printed last to standard error, or that its time was over
 */
export function runProgram<Line>(
  program: string,
  words: readonly string[],
  { timeout = 0, environment = {} }: { timeout?: number; environment?: Record<string, string> } = {},
): Line[] {
  const env = { ...process.env, ...environment }
  const { status, signal, error, stdout, stderr } = spawnSync(program, words, {
    encoding: 'utf8',
    timeout,
    env,
    maxBuffer,
  })
  if (error !== undefined) throw error
  if (status !== 0) {
    const said = stderr.trim().split('\n').at(-1)
    throw new Error(said || `${basename(program)} ended with ${signal ?? `exit code ${status}`}`)
  }
  process.stderr.write(stderr)
  return parseLines(stdout)
}

/** @throws {Error} with the line that is no JSON object. */
export function parseLines<Line>(text: string): Line[] {
  const lines = text.split('\n').filter((line) => line.trim() !== '')
  return lines.map((line) => {
    try {
      return JSON.parse(line) as Line
    } catch {
      throw new Error(`a bench program printed ${JSON.stringify(line)}, which is no JSON`)
    }
  })
}
