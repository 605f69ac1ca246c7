// Options of datasets that are none: each is named with its value, and nothing is written.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildDataset, Dataset, DatasetMix, readDatasetInfo, verifyDataset } from '../../../lib/dataset.js'
import { Tokenizer } from '../../../lib/tokenizer.js'

const tokenizer = Tokenizer.byteLevel()
const folder = mkdtempSync(join(tmpdir(), 'mor-dataset-options-'))
const source = join(folder, 'a.txt')
const out = join(folder, 'out')
beforeAll(async () => {
  writeFileSync(source, 'some text '.repeat(50))
  await buildDataset([source], out, { tokenizer })
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const refused = (message: RegExp) =>
  expect.objectContaining({ name: 'MorError', code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) })

describe('buildDataset', () => {
  it.each<[unknown, RegExp]>([
    [undefined, /buildDataset is undefined; it must be an object/],
    [null, /buildDataset is null; it must be an object/],
    [{}, /tokenizer is missing/],
    [{ tokenizer: 'byte-level' }, /tokenizer is "byte-level"; give Tokenizer.byteLevel/],
    [{ tokenizer, validationFractoin: 0.1 }, /unknown key "validationFractoin".*validationFraction/],
    [{ tokenizer, validationFraction: '0.1' }, /validationFraction is "0.1"; it must be a finite number/],
    [{ tokenizer, validationFraction: 0.6 }, /validationFraction is 0.6; it must be .*<= 0.5/],
    [{ tokenizer, length: 0 }, /length is 0; it must be an integer from 1/],
    [{ tokenizer, shardTokens: '5' }, /shardTokens is "5"; it must be an integer from 1/],
    [{ tokenizer, threads: 0 }, /threads is 0; it must be an integer from 1/],
    [{ tokenizer, textField: 5 }, /textField is 5; it must be a text/],
    [{ tokenizer, format: 'csv' }, /format is "csv"; it must be "text" or "jsonl" or "parquet"/],
    [{ tokenizer, onProgress: 5 }, /onProgress is 5; it must be a function/],
    [{ tokenizer, signal: 5 }, /signal is 5; it must be an AbortSignal/],
  ])('does not take the options %#', async (options, message) => {
    await expect(buildDataset([source], join(folder, 'new'), options as never)).rejects.toEqual(refused(message))
    expect(readdirSync(folder).toSorted()).toEqual(['a.txt', 'out'])
  })

  it('takes null for an option that is left out', async () => {
    const left = { length: null, threads: null, textField: null, shardTokens: null, format: null, signal: null }
    const nulls = { tokenizer, validationFraction: null, onProgress: null, ...left }
    expect(await buildDataset([source], join(folder, 'nulls'), nulls as never)).toEqual(await readDatasetInfo(out))
    rmSync(join(folder, 'nulls'), { recursive: true })
  })

  it.each([[source], [null], [[5]], [['']], [[source, 'a\0b']]])('does not take the files %j', async (files) => {
    const build = buildDataset(files as never, join(folder, 'new'), { tokenizer })
    await expect(build).rejects.toEqual(refused(/buildDataset: (the files are|file \d is)/))
  })

  it('reads the files that it was called with', async () => {
    const files = [source]
    const build = buildDataset(files, join(folder, 'kept'), { tokenizer })
    files.push(join(folder, 'none.txt'))
    files[0] = join(folder, 'none.txt')
    expect((await build).sources.map(({ path }) => path)).toEqual([source])
    rmSync(join(folder, 'kept'), { recursive: true })
  })
})

describe('a folder', () => {
  it.each([5, null, undefined, {}, '', 'a\0b'])('is not %j', async (path) => {
    const message = /it must be a path: a text that is neither empty nor holds NUL/
    await expect(buildDataset([source], path as never, { tokenizer })).rejects.toEqual(refused(message))
    await expect(Dataset.open(path as never, { length: 4 })).rejects.toEqual(refused(message))
    await expect(readDatasetInfo(path as never)).rejects.toEqual(refused(message))
    await expect(verifyDataset(path as never)).rejects.toEqual(refused(message))
  })
})

describe('opening a dataset, and a mix of them,', () => {
  it.each<[unknown, RegExp]>([
    [undefined, /is undefined; it must be an object/],
    [null, /is null; it must be an object/],
    [{}, /length is missing/],
    [{ length: '4' }, /length is "4"; it must be an integer from 1/],
    [{ length: 4, sed: 5 }, /unknown key "sed".*seed/],
    [{ length: 4, seed: 0.5 }, /seed is 0.5; it must be an integer/],
    [{ length: 4, split: 'test' }, /split is "test"; it must be "train" or "validation"/],
    [{ length: 4, tokenizer: 'x' }, /tokenizer is "x"; give Tokenizer.byteLevel/],
  ])('does not take the options %#', async (options, message) => {
    await expect(Dataset.open(out, options as never)).rejects.toEqual(refused(message))
    await expect(DatasetMix.open([{ folder: out, weight: 1 }], options as never)).rejects.toEqual(refused(message))
  })

  it('takes negative seeds, and null for an option that is left out', async () => {
    await using dataset = await Dataset.open(out, { length: 4, seed: -5 })
    expect(dataset.seed).toBe(-5)
    await using other = await Dataset.open(out, { length: 4, seed: null, split: null, tokenizer: null } as never)
    expect(other.seed).toBe(0)
  })

  it('has the datasets and weights that it was called with', async () => {
    const datasets = [
      { folder: out, weight: 1 },
      { folder: out, weight: 3 },
    ]
    const opening = DatasetMix.open(datasets, { length: 4 })
    datasets[1]!.weight = 1
    datasets.pop()
    await using mix = await opening
    expect(mix.parts.map(({ share }) => share)).toEqual([0.25, 0.75])
  })
})

describe('a number of rows', () => {
  const message = /rows is (missing|.*; it must be an integer)/
  it.each([undefined, null, -1, 1.5, Number.NaN, '2'])('is not %s', async (rows) => {
    await using dataset = await Dataset.open(out, { length: 4 })
    await using mix = await DatasetMix.open([{ folder: out, weight: 1 }], { length: 4 })
    const before = [dataset.state(), mix.state()]
    for (const data of [dataset, mix]) {
      await expect(async () => data.next(rows as never)).rejects.toEqual(refused(message))
      expect(() => data.skip(rows as never)).toThrow(refused(message))
    }
    await expect(dataset.sequential(rows as never).next()).rejects.toEqual(refused(message))
    expect([dataset.state(), mix.state()]).toEqual(before)
  })

  it('may be 0, but a batch in file order has one at least', async () => {
    await using dataset = await Dataset.open(out, { length: 4 })
    expect(await dataset.next(0)).toEqual([])
    await expect(dataset.sequential(0).next()).rejects.toEqual(refused(/rows is 0; it must be an integer from 1/))
  })
})

describe('a state', () => {
  it.each([null, undefined, 5, 'x'])('is not %j', async (state) => {
    await using dataset = await Dataset.open(out, { length: 4 })
    await using mix = await DatasetMix.open([{ folder: out, weight: 1 }], { length: 4 })
    expect(() => dataset.restore(state as never)).toThrow(refused(/give what state\(\) returned/))
    expect(() => mix.restore(state as never)).toThrow(refused(/give what state\(\) returned/))
    expect(() => mix.restore({ ...mix.state(), datasets: [state] } as never)).toThrow(refused(/saved state/))
  })
})
