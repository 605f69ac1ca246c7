// Reading datasets: rows are windows of the stream, every epoch visits all of them, the order resumes, damage is found.
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { buildDataset, Dataset } from '../../../lib/dataset.js'
import { Tokenizer } from '../../../lib/tokenizer.js'

const tokenizer = Tokenizer.byteLevel()
const LENGTH = 8
// 3-digit numbers: every window of 9 ids tells where it comes from.
const TEXT = Array.from({ length: 500 }, (_, i) => String(i + 100)).join(' ')
let out: string

async function build(text = TEXT, shardTokens = 300): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'mor-dataset-'))
  writeFileSync(join(folder, 'a.txt'), text)
  await buildDataset([join(folder, 'a.txt')], join(folder, 'out'), { tokenizer, shardTokens })
  return join(folder, 'out')
}

beforeAll(async () => {
  out = await build()
})

const textOf = (row: Int32Array) => tokenizer.decode(row, { skipSpecialTokens: false })

describe('rows', () => {
  it('in file order overlap by one id, run across shards, and cover the stream', async () => {
    await using dataset = await Dataset.open(out, { length: LENGTH })
    const rows: Int32Array[] = []
    for await (const batch of dataset.sequential(7)) rows.push(...batch)
    expect(rows.length).toBe(Math.floor((TEXT.length + 1 - 1) / LENGTH))
    rows.forEach((row, i) => {
      expect(row).toBeInstanceOf(Int32Array)
      expect(textOf(row)).toBe(`${TEXT}<|endoftext|>`.slice(i * LENGTH, i * LENGTH + LENGTH + 1))
    })
  })

  it('in shuffled order visit every window of an epoch once, then go on with another order and offset', async () => {
    await using dataset = await Dataset.open(out, { length: LENGTH, seed: 5 })
    const epochs: number[][] = []
    for (let epoch = 0; epoch < 3; epoch++) {
      const places: number[] = []
      while (dataset.state().epoch === epoch)
        places.push(TEXT.indexOf(textOf((await dataset.next(1))[0]!).replace('<|endoftext|>', '')))
      expect(new Set(places).size).toBe(places.length)
      const offset = Math.min(...places)
      expect(offset).toBeLessThan(LENGTH)
      expect(places.length).toBe(Math.floor((TEXT.length - offset) / LENGTH))
      expect(places.every((place) => place % LENGTH === offset)).toBe(true)
      expect(places).not.toEqual(places.toSorted((a, b) => a - b))
      epochs.push(places)
    }
    expect(new Set(epochs.map((places) => Math.min(...places))).size).toBeGreaterThan(1)
  })

  it('do not depend on how many are asked for at once, nor on calls that overlap', async () => {
    await using one = await Dataset.open(out, { length: LENGTH, seed: 1 })
    await using many = await Dataset.open(out, { length: LENGTH, seed: 1 })
    const singly: string[] = []
    for (let i = 0; i < 600; i++) singly.push(textOf((await one.next(1))[0]!))
    const together = (await Promise.all([many.next(100), many.next(450), many.next(50)])).flat().map(textOf)
    expect(together).toEqual(singly)
    await using other = await Dataset.open(out, { length: LENGTH, seed: 2 })
    expect((await other.next(600)).map(textOf)).not.toEqual(singly)
  })
})

describe('state', () => {
  it('survives JSON and goes on as if never stopped, over the end of an epoch', async () => {
    await using first = await Dataset.open(out, { length: LENGTH, seed: 3 })
    await first.next(240)
    const state = JSON.parse(JSON.stringify(first.state()))
    const expected = (await first.next(300)).map(textOf)
    await using second = await Dataset.open(out, { length: LENGTH, seed: 3 })
    second.restore(state)
    expect((await second.next(300)).map(textOf)).toEqual(expected)
  })

  it('of other text with as many tokens is refused; one that was saved without a checksum is not', async () => {
    await using dataset = await Dataset.open(out, { length: LENGTH })
    await using other = await Dataset.open(await build([...TEXT].reverse().join('')), { length: LENGTH })
    const state = dataset.state()
    expect(other.state().tokens).toBe(state.tokens)
    expect(() => other.restore(state)).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(`its checksum is ${other.state().checksum}.*${state.checksum}`),
      }),
    )
    other.restore({ ...state, checksum: undefined })
  })

  it('of other data, length or seed is refused with both values', async () => {
    await using dataset = await Dataset.open(out, { length: LENGTH })
    const state = dataset.state()
    for (const [key, value] of [
      ['length', 16],
      ['seed', 9],
      ['tokens', 12],
    ] as const) {
      expect(() => dataset.restore({ ...state, [key]: value })).toThrow(
        expect.objectContaining({
          code: 'INVALID_ARGUMENT',
          message: expect.stringMatching(`${key} is ${state[key]}.*${value}`),
        }),
      )
    }
    for (const wrong of [{ index: 1e6 }, { index: -1 }, { epoch: 0.5 }]) {
      expect(() => dataset.restore({ ...state, ...wrong })).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      )
    }
    expect(dataset.state()).toEqual(state)
  })
})

it('a dataset.json with a byte order mark is read like one without', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mor-dataset-'))
  cpSync(out, folder, { recursive: true })
  const path = join(folder, 'dataset.json')
  writeFileSync(path, `\ufeff${readFileSync(path, 'utf8')}`)
  await using dataset = await Dataset.open(folder, { length: 8 })
  expect(dataset.length).toBe(8)
})

describe('bad datasets', () => {
  const open = (folder: string, options = {}) => Dataset.open(folder, { length: LENGTH, ...options })

  it('another tokenizer', async () => {
    const other = like(tokenizer, { name: 'other.json', vocabSize: 300, fingerprint: 'f00' })
    await expect(open(out, { tokenizer: other })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/byte-level \(vocabulary 257\).*other.json \(vocabulary 300\)/),
    })
    await (await open(out, { tokenizer })).close()
  })

  it('too few tokens for one row; one row is enough', async () => {
    const folder = await build('12345678')
    await expect(open(folder, { length: 9 })).rejects.toMatchObject({
      message: expect.stringContaining('has 9 tokens, fewer than one row of length + 1 = 10'),
    })
    await using dataset = await open(folder, { length: 8 })
    expect((await dataset.next(3)).map(textOf)).toEqual(new Array(3).fill('12345678<|endoftext|>'))
    await expect(open(folder, { split: 'validation' })).rejects.toMatchObject({
      message: expect.stringContaining('the validation split'),
    })
  })

  it.each([0, -1, 2.5])('a length of %s', async (length) => {
    await expect(open(out, { length })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(String(length)),
    })
  })

  it.each([
    ['no dataset', (folder: string) => rmSync(join(folder, 'dataset.json')), 'not a token dataset'],
    [
      'a shard cut short',
      (folder: string) => truncateSync(join(folder, 'train-00001.bin'), 599),
      'train-00001.bin is truncated: 599 bytes, not 600',
    ],
    [
      'a shard grown',
      (folder: string) => appendFileSync(join(folder, 'train-00000.bin'), 'x'),
      'train-00000.bin is too long: 601 bytes',
    ],
    ['a shard lost', (folder: string) => rmSync(join(folder, 'train-00002.bin')), 'train-00002.bin'],
    ['half a sidecar', (folder: string) => truncateSync(join(folder, 'dataset.json'), 100), 'is not JSON'],
    ['another JSON', (folder: string) => writeFileSync(join(folder, 'dataset.json'), '{}'), 'has format undefined'],
    [
      'a later version',
      (folder: string) => edit(folder, (info) => Object.assign(info, { version: 2 })),
      'has version 2',
    ],
    [
      'wrong counts',
      (folder: string) => edit(folder, (info) => Object.assign(info.splits.train, { tokens: 5 })),
      'counts 5 train tokens',
    ],
    [
      'a missing split',
      (folder: string) => edit(folder, (info) => Object.assign(info.splits, { validation: null })),
      'no validation split',
    ],
    ...[
      null,
      5,
      {},
      { tokens: 1, sha256: '' },
      { file: 5, tokens: 1, sha256: '' },
      { file: '../out/train-00000.bin', tokens: 1, sha256: '' },
      { file: 'train-00000.bin', tokens: -1, sha256: '' },
      { file: 'train-00000.bin', tokens: '1', sha256: '' },
      { file: 'train-00000.bin', tokens: 1 },
    ].map((shard): [string, (folder: string) => void, string] => [
      `a shard ${JSON.stringify(shard)}`,
      (folder) => edit(folder, (info) => Object.assign(info.splits.train, { shards: [shard] })),
      'has a train shard that is',
    ]),
  ])('%s', async (_, damage, message) => {
    const folder = await build()
    damage(folder)
    await expect(open(folder)).rejects.toMatchObject({ code: 'IO_ERROR', message: expect.stringContaining(message) })
  })

  it('a split that is not known is left alone', async () => {
    const folder = await build()
    edit(folder, (info) => Object.assign(info.splits, { test: null }))
    await using dataset = await open(folder)
    expect(dataset.split.tokens).toBeGreaterThan(0)
  })

  it('damage that shows only when read: an id outside the vocabulary, a shard that shrinks', async () => {
    const folder = await build()
    const shard = join(folder, 'train-00000.bin')
    const bytes = readFileSync(shard)
    bytes.writeUInt16LE(999, 2 * 10)
    writeFileSync(shard, bytes)
    await using dataset = await open(folder)
    const readAll = async () => {
      for await (const _ of dataset.sequential(4));
    }
    await expect(readAll()).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining('token 10 is 999, the vocabulary has 257'),
    })
    truncateSync(shard, 4)
    await expect(readAll()).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining('ends before token'),
    })
  })
})

/** The same tokenizer with other properties. */
function like(tokenizer: Tokenizer, changes: Partial<Tokenizer>): Tokenizer {
  return Object.create(tokenizer, Object.getOwnPropertyDescriptors(changes))
}

function edit(folder: string, change: (info: { splits: { train: object } }) => void): void {
  const path = join(folder, 'dataset.json')
  const info = JSON.parse(readFileSync(path, 'utf8'))
  change(info)
  writeFileSync(path, JSON.stringify(info))
}
