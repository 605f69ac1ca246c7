// The version of a package, as its package.json says.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** @param root the folder of the package */
export function versionOf(root: string): string {
  return (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version
}
