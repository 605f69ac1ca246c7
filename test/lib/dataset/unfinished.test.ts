// A build that ends early is gone on with, and gives the same bytes as one that did not; damage to a finished one is found.

import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { buildDataset, verifyDataset } from '../../../lib/dataset.js'
import { Tokenizer } from '../../../lib/tokenizer.js'

vi.mock('node:fs/promises', async (original) => {
  const own = await original<typeof import('node:fs/promises')>()
  return { ...own, rename: vi.fn(own.rename), rm: vi.fn(own.rm) }
})
const actual = await vi.importActual<typeof import('node:fs/promises')>('node:fs/promises')

const tokenizer = Tokenizer.byteLevel()
let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-unfinished-'))
})

/** Two files of together 15 MB: each token is a byte, and the record is written every 4 million. */
function corpus(): string[] {
  const lines = Array.from({ length: 80_000 }, (_, i) => JSON.stringify({ text: `document ${i} `.repeat(1 + (i % 9)) }))
  const [a, b] = [join(folder, 'a.jsonl'), join(folder, 'b.txt')]
  writeFileSync(a, lines.join('\n'))
  writeFileSync(b, 'a line of a long text\n'.repeat(400_000))
  return [a, b]
}

const contents = (out: string) =>
  Object.fromEntries(
    readdirSync(out).map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(out, name)))
        .digest('hex'),
    ]),
  )

describe('a build that is stopped', () => {
  it.each([
    ['with a validation split', { validationFraction: 0.05, length: 64, shardTokens: 3_000_000 }],
    ['without one', { shardTokens: 2 ** 22 }],
  ])('goes on where it was, to the same bytes: %s', { timeout: 240_000 }, async (_, options) => {
    const files = corpus()
    await buildDataset(files, join(folder, 'whole'), { tokenizer, ...options })
    const out = join(folder, 'out')
    const starts: number[] = []
    for (const stopAt of [6_000_000, 11_000_000]) {
      const stop = new AbortController()
      let first: number | undefined
      const onProgress = ({ tokens }: { tokens: number }) => {
        first ??= tokens
        if (tokens > stopAt) stop.abort()
      }
      const build = buildDataset(files, out, { tokenizer, ...options, onProgress, signal: stop.signal })
      await expect(build).rejects.toMatchObject({ code: 'ABORTED' })
      expect(existsSync(out)).toBe(false)
      starts.push(first!)
    }
    let first: number | undefined
    const onProgress = ({ tokens }: { tokens: number }) => {
      first ??= tokens
    }
    await buildDataset(files, out, { tokenizer, ...options, onProgress })
    starts.push(first!)
    expect(starts[0]).toBeLessThan(1000)
    expect(starts[1]).toBeGreaterThan(4_000_000)
    expect(starts[2]).toBeGreaterThan(8_000_000)
    expect(contents(out)).toEqual(contents(join(folder, 'whole')))
    expect(existsSync(`${out}.partial`)).toBe(false)
    await verifyDataset(out)
  })

  it('starts again with other options, other files, or a record that is damaged', { timeout: 240_000 }, async () => {
    const files = corpus()
    const out = join(folder, 'out')
    const stopped = async () => {
      const stop = new AbortController()
      const onProgress = ({ tokens }: { tokens: number }) => {
        if (tokens > 5_000_000) stop.abort()
      }
      await expect(buildDataset(files, out, { tokenizer, onProgress, signal: stop.signal })).rejects.toThrow()
      expect(existsSync(join(`${out}.partial`, 'unfinished.json'))).toBe(true)
    }
    const firstOf = async (options: object, sources = files) => {
      let first: number | undefined
      const onProgress = ({ tokens }: { tokens: number }) => {
        first ??= tokens
      }
      await buildDataset(sources, out, { tokenizer, ...options, onProgress })
      return first!
    }
    await stopped()
    expect(await firstOf({ shardTokens: 1_000_000 })).toBeLessThan(1000)
    await stopped()
    expect(await firstOf({}, files.slice(0, 1))).toBeLessThan(1000)
    await stopped()
    writeFileSync(join(`${out}.partial`, 'unfinished.json'), '{')
    expect(await firstOf({})).toBeLessThan(1000)
    await verifyDataset(out)
  })
})

it('one that is killed before it gets its name goes on from its record', { timeout: 240_000 }, async () => {
  const files = corpus()
  const out = join(folder, 'out')
  const renamed = vi.mocked(rename).mockImplementation(async (from, to) => {
    if (to === out) throw new Error('killed')
    return actual.rename(from, to)
  })
  await expect(buildDataset(files, out, { tokenizer })).rejects.toThrow('killed')
  renamed.mockImplementation(actual.rename)
  let first: number | undefined
  const onProgress = ({ tokens }: { tokens: number }) => {
    first ??= tokens
  }
  const info = await buildDataset(files, out, { tokenizer, onProgress })
  expect(first).toBeGreaterThan(8_000_000)
  expect(readdirSync(out).toSorted()).toEqual(['dataset.json', ...info.splits.train.shards.map(({ file }) => file)])
  expect(await verifyDataset(out)).toEqual(await buildDataset(files, join(folder, 'whole'), { tokenizer }))
})

it('one that is killed while the dataset before is removed goes on', async () => {
  const out = join(folder, 'out')
  const files = [join(folder, 'a.txt')]
  writeFileSync(files[0]!, 'some text')
  await buildDataset(files, out, { tokenizer, shardTokens: 4 })
  expect(readdirSync(out)).toHaveLength(4)
  writeFileSync(files[0]!, 'other text')
  for (let before = 4; before > 1; before--) {
    let left = 1
    const killed = vi.mocked(rm).mockImplementation(async (path, options) => {
      if (String(path).startsWith(out) && !String(path).includes('.partial') && left-- === 0) throw new Error('killed')
      return actual.rm(path, options)
    })
    await expect(buildDataset(files, out, { tokenizer, shardTokens: 4 })).rejects.toThrow('killed')
    killed.mockImplementation(actual.rm)
    expect(readdirSync(out)).toHaveLength(before - 1)
    expect(readdirSync(out)).toContain('dataset.json')
  }
  await buildDataset(files, out, { tokenizer, shardTokens: 4 })
  await verifyDataset(out)
})

it('a record that was not written to its end goes with the others, and is no foreign file', async () => {
  const out = join(folder, 'out')
  const files = [join(folder, 'a.txt')]
  writeFileSync(files[0]!, 'some text')
  await buildDataset(files, out, { tokenizer })
  writeFileSync(join(out, 'unfinished.json.new'), '{')
  await buildDataset(files, out, { tokenizer })
  expect(readdirSync(out)).toEqual(['dataset.json', 'train-00000.bin'])
})

it('a shard with a bit that is not as it was written is found', async () => {
  writeFileSync(join(folder, 'a.txt'), 'some text')
  const out = join(folder, 'out')
  const info = await buildDataset([join(folder, 'a.txt')], out, { tokenizer })
  const shard = join(out, info.splits.train.shards[0]!.file)
  const bytes = readFileSync(shard)
  expect(info.splits.train.shards[0]!.sha256).toBe(createHash('sha256').update(bytes).digest('hex'))
  expect(await verifyDataset(out)).toEqual(info)
  bytes[4]! ^= 1
  writeFileSync(shard, bytes)
  await expect(verifyDataset(out)).rejects.toMatchObject({
    code: 'IO_ERROR',
    message: expect.stringMatching(/train-00000\.bin is damaged: its SHA-256 is .* delete/),
  })
  writeFileSync(shard, bytes.subarray(1))
  await expect(verifyDataset(out)).rejects.toThrow(/train-00000\.bin is truncated: .*; delete its folder and build/)
  rmSync(shard)
  await expect(verifyDataset(out)).rejects.toThrow(/train-00000\.bin is missing; delete its folder and build/)
})
