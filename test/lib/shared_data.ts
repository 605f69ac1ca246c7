// Finds the real data that lies beside the project on some machines, and says so where it is not there.
// Must not know: what the data is used for.
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** Tests run in the project's root. */
const folder = resolve('../shared/data')

/** The path of a file of the shared data, or null, with a line on the error stream, where it is missing. */
export function sharedData(name: string): string | null {
  const path = join(folder, name)
  if (existsSync(path)) return path
  process.stderr.write(`SKIPPED: tests that need ../shared/data/${name}, which is not on this machine\n`)
  return null
}
