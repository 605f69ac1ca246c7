// A folder is held by one process at a time, and by none that has ended.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { holdFolder } from '../../lib/folder_lock.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

let root: string
let folder: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'mor-lock-'))
  folder = join(root, 'run')
  mkdirSync(folder)
})
afterEach(() => rmSync(root, { recursive: true }))

/** Another process that holds the folder, once it says so. */
async function holder(): Promise<ChildProcess> {
  const held = `require('./lib/folder_lock.ts').holdFolder(${JSON.stringify(folder)}).then((held) => {
    setInterval(() => held, 1000)
    console.log('held')
  })`
  const child = spawn(process.execPath, ['--import', 'tsx', '--eval', held], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [said] = await Promise.race([once(child.stdout!, 'data'), once(child, 'exit')])
  expect(String(said)).toBe('held\n')
  return child
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  child.kill(signal)
  await once(child, 'exit')
}

const refused = (message: RegExp) => ({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) })

it('is refused by whatever path, until it is no longer held, and nothing is left in it', async () => {
  const held = await holdFolder(folder)
  const link = join(root, 'link')
  symlinkSync(folder, link)
  for (const path of [folder, `${folder}/`, link, relative('.', folder)])
    await expect(holdFolder(path)).rejects.toMatchObject(
      refused(new RegExp(`^process ${process.pid} has been writing into `)),
    )
  expect(readdirSync(folder)).toEqual([])
  await held![Symbol.asyncDispose]()
  await (await holdFolder(link))![Symbol.asyncDispose]()
})

it('says which process holds it, since when, and what to do', async () => {
  const before = Date.now()
  const child = await holder()
  const error: Error = await holdFolder(folder).then(
    () => expect.unreachable(),
    (reason) => reason,
  )
  const [, pid, path, since, stop] =
    /^process (\d+) has been writing into (\S+) since (\S+): wait for its end, stop it \(kill (\d+)\), or choose another folder$/.exec(
      error.message,
    )!
  expect([pid, path, stop]).toEqual([String(child.pid), folder, String(child.pid)])
  expect(Date.parse(since!)).toBeGreaterThanOrEqual(before)
  expect(Date.parse(since!)).toBeLessThanOrEqual(Date.now())
  await end(child, 'SIGTERM')
})

it('is free at once after a process that was killed', async () => {
  await end(await holder(), 'SIGKILL')
  await (await holdFolder(folder))![Symbol.asyncDispose]()
})

it('is held by a process that is stopped', async () => {
  const child = await holder()
  child.kill('SIGSTOP')
  await expect(holdFolder(folder)).rejects.toMatchObject(refused(/^another process writes into .* does not answer/))
  await end(child, 'SIGKILL')
})

it('is held before it is there, and while it is removed and made again', async () => {
  const later = join(root, 'later')
  await using _held = await holdFolder(later)
  const isRefused = () => expect(holdFolder(later)).rejects.toMatchObject(refused(/has been writing into/))
  await isRefused()
  mkdirSync(later)
  await isRefused()
})

it('is not held by one that holds another folder, nor where the folder above is missing', async () => {
  await using _one = await holdFolder(folder)
  await using _two = await holdFolder(join(root, 'other'))
  expect(await holdFolder(join(root, 'missing', 'run'))).toBeNull()
})
