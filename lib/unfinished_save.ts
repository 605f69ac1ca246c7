// Finishes a save whose process was killed when all of its files were written, but not all of them in place.
import { readdir, rename, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ifGone } from './errors.js'

/** The addon gives this name to the folder of a save that is complete (native/checkpoint/folder_update.h). */
const completePrefix = '.saved-'

/** Whoever opens the folder may do the same at the same time, and so may the process that saves. @throws {MorError} IO_ERROR */
export async function finishSave(folder: string): Promise<void> {
  const entries = await readdir(folder).catch(ifGone<string[]>([]))
  for (const complete of entries.filter((name) => name.startsWith(completePrefix))) {
    const path = join(folder, complete)
    for (const name of await readdir(path).catch(ifGone<string[]>([]))) {
      await rename(join(path, name), join(folder, name)).catch(ifGone(undefined))
    }
    // Nothing depends on it, and a reader of what another user saves may not remove it.
    await rmdir(path).catch(() => {})
  }
}
