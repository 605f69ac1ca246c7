// A disk that is full while a dataset is built: the error says so, what was written stays, and the same call goes on from there.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { buildDataset } from '../../../lib/dataset.js'
import { Tokenizer } from '../../../lib/tokenizer.js'

/** Bytes that can still be written. */
const disk = vi.hoisted(() => ({ room: Number.POSITIVE_INFINITY }))
vi.mock('node:fs/promises', async (original) => {
  const fs = await original<typeof import('node:fs/promises')>()
  const open: typeof fs.open = async (...args) => {
    const file = await fs.open(...args)
    const writeFile = file.writeFile.bind(file)
    file.writeFile = async (content, ...more) => {
      disk.room -= Buffer.byteLength(content as Uint8Array)
      if (disk.room >= 0) return writeFile(content, ...more)
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' })
    }
    return file
  }
  return { ...fs, default: { ...fs, open }, open }
})

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-full-disk-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const contents = (out: string) =>
  Object.fromEntries(readdirSync(out).map((name) => [name, readFileSync(join(out, name)).toString('base64')]))

/** Builds with this much room, and returns the tokens that were done when the first progress came. */
async function build(out: string, room: number): Promise<{ first: number; error: unknown }> {
  disk.room = room
  let first = -1
  const onProgress = ({ tokens }: { tokens: number }) => {
    if (first < 0) first = tokens
  }
  const options = { tokenizer: Tokenizer.byteLevel(), validationFraction: 0.05, shardTokens: 3_000_000, onProgress }
  const error = await buildDataset([join(folder, 'text.txt')], out, options).then(
    () => null,
    (reason: unknown) => reason,
  )
  return { first, error }
}

it('is told, and the build goes on when there is room again', { timeout: 240_000 }, async () => {
  writeFileSync(join(folder, 'text.txt'), 'a line of a long text\n'.repeat(450_000))
  const [out, whole] = [join(folder, 'out'), join(folder, 'whole')]
  expect((await build(whole, Number.POSITIVE_INFINITY)).error).toBeNull()
  const full = { code: 'IO_ERROR', message: expect.stringMatching(/ENOSPC: .*: free some space on that disk/) }

  // 2 bytes a token, and a record after 4 million tokens: before it nothing is worth keeping.
  expect(await build(out, 5_000_000)).toMatchObject({ error: full })
  expect(readdirSync(folder).toSorted()).toEqual(['text.txt', 'whole'])

  expect(await build(out, 12_000_000)).toMatchObject({ error: full })
  expect(existsSync(out)).toBe(false)
  const again = await build(out, 5_000_000)
  expect(again).toMatchObject({ error: full })
  expect(again.first).toBeGreaterThan(4_000_000)
  const last = await build(out, Number.POSITIVE_INFINITY)
  expect(last.error).toBeNull()
  expect(last.first).toBeGreaterThan(4_000_000)
  expect(contents(out)).toEqual(contents(whole))
})
