// Makes a folder or a file that is there whole or not at all, whatever ends the work before.
import { mkdir, readdir, readFile, realpath, rename, rm, stat, statfs } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { MorError, toMorError } from '../errors.js'
import { exists } from '../exists.js'
import { makeFolder } from '../make_folder.js'

/** Between the name of the target and the id of the process that makes it, in the name of a folder that is not finished. */
const MARK = '.converting-'

/** What an output is in the end. */
export type OutputKind = 'file' | 'folder'

/**
 * Has `write` fill a new folder beside `target`. What it resolves to, that folder or a file in it, gets the name of the target.
 * What a process that no longer runs left behind there is removed first.
 * @throws {MorError} INVALID_ARGUMENT where the target is there, IO_ERROR, and what `write` throws
 */
export async function makeOutput(
  target: string,
  output: OutputKind,
  write: (folder: string) => Promise<string>,
): Promise<void> {
  const path = resolve(target)
  await checkAbsent(path, output)
  try {
    await makeFolder(dirname(path))
    await removeAbandoned(path)
    const staging = `${path}${MARK}${process.pid}-${Date.now()}`
    try {
      await mkdir(staging)
      await rename(await write(staging), path)
    } finally {
      await rm(staging, { recursive: true, force: true })
    }
  } catch (error) {
    throw toMorError(error, path)
  }
}

/**
 * An empty folder counts as absent where a folder is made, unless something is mounted there: such a folder cannot be replaced.
 * @throws {MorError} INVALID_ARGUMENT
 */
export async function checkAbsent(path: string, output: OutputKind): Promise<void> {
  const kind = await stat(path).catch(() => null)
  if (kind === null) return
  const names = kind.isDirectory() ? await readdir(path) : [basename(path)]
  if (names.length === 0) {
    if (output === 'file')
      throw new MorError('INVALID_ARGUMENT', `${path} is a folder, but a file is to be made: give the file's name`)
    if (!(await isMountPoint(path))) return
    const inside = join(path, 'model')
    throw new MorError('INVALID_ARGUMENT', `${path} is a mount point, which cannot be replaced: give ${inside}, say`)
  }
  throw new MorError(
    'INVALID_ARGUMENT',
    `${path} is there already${kind.isDirectory() ? `, with ${names[0]} in it` : ''}: give another output, or remove it`,
  )
}

async function isMountPoint(path: string): Promise<boolean> {
  const real = await realpath(path)
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '')
  // The fifth field is the mount point, with spaces and the like as three octal digits.
  const points = mounts.split('\n').map((line) => line.split(' ', 5)[4] ?? '')
  const unescaped = (point: string) =>
    point.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
  return points.some((point) => unescaped(point) === real)
}

async function removeAbandoned(path: string): Promise<void> {
  const prefix = basename(path) + MARK
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(prefix) || isRunning(Number.parseInt(name.slice(prefix.length), 10))) continue
    await rm(join(dirname(path), name), { recursive: true, force: true })
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** @throws {MorError} IO_ERROR where the disk of `path`, which need not be there yet, has less room */
export async function checkRoom(path: string, bytes: number): Promise<void> {
  let folder = dirname(resolve(path))
  while (!(await exists(folder))) folder = dirname(folder)
  const { bavail, bsize } = await statfs(folder)
  if (bavail * bsize >= bytes) return
  throw new MorError(
    'IO_ERROR',
    `${path} takes ${bytes} bytes, and its disk has ${bavail * bsize} left; free some space on that disk, then try again`,
  )
}
