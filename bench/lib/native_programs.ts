// Builds the C++ programs of the benches, and runs those that print one JSON object a line.
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

const root = join(__dirname, '..', '..')
const build = join(root, 'build', 'bench')

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

/** @param timeout in milliseconds; 0: none. @param environment variables on top of this process's own. */
export function runProgram<Line>(
  program: string,
  words: readonly string[],
  { timeout = 0, environment = {} }: { timeout?: number; environment?: Record<string, string> } = {},
): Line[] {
  const env = { ...process.env, ...environment }
  const text = execFileSync(program, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], timeout, env })
  return parseLines(text)
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
