// Folders that are made, and what is said of those that cannot be.
import { mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { toMorError } from '../../lib/errors.js'
import { makeFolder } from '../../lib/make_folder.js'

const root = mkdtempSync(join(tmpdir(), 'mor-folder-'))
afterAll(() => rmSync(root, { recursive: true }))

it('makes a folder and those above it, once', async () => {
  const deep = join(root, 'a', 'b', 'c')
  await Promise.all([makeFolder(deep), makeFolder(join(root, 'a', 'b')), makeFolder(deep)])
  expect(statSync(deep).isDirectory()).toBe(true)
  writeFileSync(join(deep, 'file'), 'text')
  await makeFolder(deep)
  await makeFolder(`${deep}/`)
  await makeFolder(join(root, 'a', 'b', '..', '..', 'd'))
  expect(readdirSync(deep)).toEqual(['file'])
  expect(readdirSync(root)).toEqual(['a', 'd'])
  await makeFolder('.')
  await makeFolder('/')
})

it('takes a link to a folder for one', async () => {
  symlinkSync(join(root, 'a'), join(root, 'link'))
  await makeFolder(join(root, 'link'))
  await makeFolder(join(root, 'link', 'e'))
  expect(readdirSync(join(root, 'a'))).toEqual(['b', 'e'])
})

it('refuses what a file or a link to nothing is in the way of', async () => {
  const [file, nothing] = [join(root, 'file'), join(root, 'nothing')]
  writeFileSync(file, '')
  symlinkSync(join(root, 'missing'), nothing)
  for (const [path, code] of [
    [file, 'EEXIST'],
    [join(file, 'below'), 'ENOTDIR'],
    [join(nothing, 'below'), 'EEXIST'],
  ] as const) {
    await expect(makeFolder(path)).rejects.toMatchObject({ code })
  }
})

it('ends where a file system takes no folders', async () => {
  for (const path of ['/proc/run', '/proc/run/below', '/proc/self/run']) {
    const error = toMorError(await makeFolder(path).catch((reason: unknown) => reason))
    expect(error.code).toBe('IO_ERROR')
    expect(error.message).toMatch(
      /^the folder \/proc\/\S*run cannot be made \(ENOENT\): the one above takes no folders/,
    )
  }
})
