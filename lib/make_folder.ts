// Makes folders.
import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes `folder` and those above it, where they are missing. Throws what `mkdir` throws. With its option `recursive` the call would
 * never end in a file system such as /proc, which refuses a new folder by saying that one above it is missing.
 */
export async function makeFolder(folder: string): Promise<void> {
  try {
    await makeOne(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(folder) === folder) throw error
    await makeFolder(dirname(folder))
    await makeOne(folder)
  }
}

async function makeOne(folder: string): Promise<void> {
  try {
    await mkdir(folder)
  } catch (error) {
    const found = await stat(folder).catch(() => null)
    if (!found?.isDirectory()) throw error
  }
}
