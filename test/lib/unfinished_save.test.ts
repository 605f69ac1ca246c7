// What opens a folder does with a save that was not brought to its end.
import { mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs'
import { rename, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, it, vi } from 'vitest'
import { finishSave } from '../../lib/unfinished_save.js'

vi.mock('node:fs/promises', async (original) => {
  const own = await original<typeof import('node:fs/promises')>()
  return { ...own, rename: vi.fn(own.rename), rmdir: vi.fn(own.rmdir) }
})
const refused = Object.assign(new Error('EROFS: read-only file system'), { code: 'EROFS', syscall: 'rename' })

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-unfinished-save-'))
  mkdirSync(join(folder, '.saved-x'))
})

it('brings the files of the save into place', async () => {
  writeFileSync(join(folder, '.saved-x', 'config.json'), '{}')
  await finishSave(folder)
  expect(readdirSync(folder)).toEqual(['config.json'])
})

it('leaves a folder without files where nothing can be written, since nothing depends on it', async () => {
  vi.mocked(rmdir).mockRejectedValueOnce(refused)
  await finishSave(folder)
  expect(readdirSync(folder)).toEqual(['.saved-x'])
})

it('says why files cannot be brought into place', async () => {
  writeFileSync(join(folder, '.saved-x', 'config.json'), '{}')
  vi.mocked(rename).mockRejectedValueOnce(refused)
  await expect(finishSave(folder)).rejects.toMatchObject({ code: 'IO_ERROR', message: expect.stringMatching(/EROFS/) })
})
