// Finds real data that some machines have beside the project, and reports if it is missing.
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** Tests run in the project's root. */
const folder = resolve('../shared/data')

/** The path of a file of the shared data; null, and a line on standard error, if it is missing. */
export function sharedData(name: string): string | null {
  const path = join(folder, name)
  if (existsSync(path)) return path
  process.stderr.write(`SKIPPED: tests that need ../shared/data/${name}, which is not on this machine\n`)
  return null
}
