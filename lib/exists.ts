// Whether a file or a folder is there.
import { stat } from 'node:fs/promises'

/** One that cannot be reached counts as absent: what needs it says why. */
export async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null
}
