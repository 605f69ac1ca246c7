// What all tests write lies below one temporary folder, which goes with the run, whatever the tests leave behind.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Vitest calls it before it starts the processes of the tests, which inherit the variable, and the result after the last test. */
export default function setUp(): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'mor-test-'))
  process.env.TMPDIR = folder
  return () => rmSync(folder, { recursive: true, force: true })
}
