// A folder that is there as long as a bench needs it.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Empty; it is removed with what is in it when `using` ends. @param prefix of its name, with the hyphen. */
export function temporaryFolder(prefix: string): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), prefix))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}
