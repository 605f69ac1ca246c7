// Mixed datasets: rows come in the given shares, each dataset in a shuffled order of its own; the order resumes; what does not fit is
// refused by name.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { buildDataset, Dataset, DatasetMix, type DatasetMixState } from '../../../lib/dataset.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { savePairTokenizer } from '../tokenizer/pair_tokenizer.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const tokenizer = Tokenizer.byteLevel()
const LENGTH = 8
const root = mkdtempSync(join(tmpdir(), 'mor-mix-'))
afterAll(() => rmSync(root, { recursive: true }))

/** Two-digit numbers after the letter: every row of 9 ids tells which dataset it comes from, and where it begins. */
const textOf = (letter: string, numbers: number) =>
  Array.from({ length: numbers }, (_, i) => `${letter}${String(i).padStart(2, '0')}`).join('')

async function build(name: string, text: string, using = tokenizer): Promise<string> {
  const folder = join(root, name)
  writeFileSync(join(root, `${name}.txt`), text)
  await buildDataset([join(root, `${name}.txt`)], folder, { tokenizer: using, shardTokens: 100 })
  return folder
}

let a: string
let b: string
let c: string
beforeAll(async () => {
  a = await build('a', textOf('a', 80))
  b = await build('b', textOf('b', 80))
  c = await build('c', textOf('c', 33))
})

const threeToOne = () => [
  { folder: a, weight: 3 },
  { folder: b, weight: 1 },
]
const open = (datasets = threeToOne(), options = {}) =>
  DatasetMix.open(datasets, { length: LENGTH, seed: 7, ...options })

const decode = (row: Int32Array) => tokenizer.decode(row, { skipSpecialTokens: false })
/** The letter of the dataset that a row is from. */
const originOf = (row: Int32Array) => /[abc]/.exec(decode(row))![0]
/** Where the row begins in the text of its dataset. */
function placeOf(row: Int32Array): number {
  const text = decode(row)
  const [, before, digits] = /^(\d{0,2})[abc](\d\d)/.exec(text)!
  return 3 * Number(digits) - before!.length
}

describe('rows', () => {
  it('come in the given shares, in every stretch as closely as whole rows allow', async () => {
    const weights = { a: 5, b: 3, c: 2 }
    await using mix = await open([
      { folder: a, weight: weights.a },
      { folder: b, weight: weights.b },
      { folder: c, weight: weights.c },
    ])
    expect(mix.parts.map(({ name, share }) => [name, share])).toEqual([
      ['a', 0.5],
      ['b', 0.3],
      ['c', 0.2],
    ])
    const counts = { a: 0, b: 0, c: 0 }
    const origins = (await mix.next(1000)).map(originOf) as (keyof typeof counts)[]
    for (const [i, origin] of origins.entries()) {
      counts[origin]++
      for (const [name, weight] of Object.entries(weights) as [keyof typeof counts, number][])
        expect(Math.abs(counts[name] - ((i + 1) * weight) / 10)).toBeLessThan(1)
    }
    expect(counts).toEqual({ a: 500, b: 300, c: 200 })
  })

  it('of each dataset visit all of its windows, then all of them in another order', async () => {
    await using mix = await open()
    const windows = Math.floor(240 / LENGTH)
    const places = { a: [] as number[], b: [] as number[] }
    for (const row of await mix.next(4 * 2 * windows)) places[originOf(row) as 'a' | 'b'].push(placeOf(row))
    for (const taken of Object.values(places)) {
      const first = taken.slice(
        0,
        taken.findIndex((place) => place % LENGTH !== taken[0]! % LENGTH),
      )
      expect(new Set(first).size).toBe(first.length)
      expect(first.length).toBe(Math.floor((240 - (first[0]! % LENGTH)) / LENGTH))
      expect(first).not.toEqual(first.toSorted((x, y) => x - y))
      const next = taken.slice(first.length, first.length + 10)
      expect(next.map((place) => Math.floor(place / LENGTH))).not.toEqual(
        first.slice(0, 10).map((place) => Math.floor(place / LENGTH)),
      )
    }
    // The datasets have the same size: with one order for both their places would be the same.
    expect(places.b.slice(0, 10)).not.toEqual(places.a.slice(0, 10))
    expect(mix.seen()).toEqual([
      { dataset: 'a', tokens: 6 * windows * LENGTH, epoch: 6 },
      { dataset: 'b', tokens: 2 * windows * LENGTH, epoch: 2 },
    ])
  })

  it('are the same for the same seed, in calls of any size that may overlap, and others for another', async () => {
    await using one = await open()
    const singly: string[] = []
    for (let i = 0; i < 300; i++) singly.push(decode((await one.next(1))[0]!))
    await using many = await open()
    expect((await Promise.all([many.next(100), many.next(150), many.next(50)])).flat().map(decode)).toEqual(singly)
    await using other = await open(threeToOne(), { seed: 8 })
    expect((await other.next(300)).map(decode)).not.toEqual(singly)
  })

  it('are those of the validation split where that is asked for', async () => {
    const text = textOf('d', 99)
    writeFileSync(join(root, 'd.txt'), text)
    const d = join(root, 'd')
    await buildDataset([join(root, 'd.txt')], d, { tokenizer, validationFraction: 0.2, length: LENGTH })
    await using mix = await open([{ folder: d, weight: 1 }], { split: 'validation' })
    await using split = await Dataset.open(d, { length: LENGTH, split: 'validation' })
    expect(mix.parts[0]!.dataset.split).toEqual(split.split)
  })

  it('keep to weights of any size', async () => {
    for (const [large, small] of [
      [Number.MAX_VALUE, Number.MAX_VALUE / 3],
      [3 * Number.MIN_VALUE, Number.MIN_VALUE],
    ] as const) {
      await using mix = await open([
        { folder: a, weight: large },
        { folder: b, weight: small },
      ])
      const origins = (await mix.next(40)).map(originOf)
      expect(origins.filter((origin) => origin === 'a').length).toBe(30)
    }
  })
})

describe('state', () => {
  const json = (state: DatasetMixState): DatasetMixState => JSON.parse(JSON.stringify(state))

  it('survives JSON and goes on as if never stopped, over the ends of epochs', async () => {
    await using first = await open()
    await first.next(121)
    const state = json(first.state())
    const expected = (await first.next(200)).map(decode)
    await using second = await open()
    second.restore(state)
    expect(json(second.state())).toEqual(state)
    expect((await second.next(200)).map(decode)).toEqual(expected)
    expect(second.seen()).toEqual(first.seen())
  })

  it('of datasets that were moved is the same', async () => {
    const moved = await build('moved', textOf('a', 80))
    await using first = await open()
    await first.next(50)
    const state = json(first.state())
    await using second = await open([{ folder: moved, weight: 3 }, threeToOne()[1]!])
    second.restore(state)
    expect((await second.next(50)).map(decode)).toEqual((await first.next(50)).map(decode))
  })

  it('of other datasets, weights, length or seed is refused with both values, and nothing is changed', async () => {
    await using mix = await open()
    await mix.next(5)
    const state = json(mix.state())
    const refusal = async (datasets: { folder: string; weight: number }[], options = {}) => {
      await using other = await open(datasets, options)
      await other.next(3)
      const before = other.state()
      try {
        other.restore(state)
      } catch (error) {
        expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' })
        expect(other.state()).toEqual(before)
        return (error as Error).message
      }
      return 'restored'
    }
    const [three, one] = threeToOne() as [{ folder: string; weight: number }, { folder: string; weight: number }]
    expect(await refusal([three, { ...one, weight: 2 }])).toContain(
      `the weight of ${b} is 2, that of the saved state 1`,
    )
    // Both have equally many tokens.
    expect(
      await refusal([
        { ...one, weight: 3 },
        { ...three, weight: 1 },
      ]),
    ).toMatch(new RegExp(`dataset 1 is ${b} \\(checksum \\w+\\), that of the saved state ${a} \\(checksum \\w+\\)`))
    expect(await refusal([three])).toContain(`it has 1 datasets (${a}), the saved state 2 datasets (${a}, ${b})`)
    expect(await refusal([three, one], { length: 16 })).toContain('length is 16, that of the saved state 8')
    expect(await refusal([three, one], { seed: 2 })).toContain('seed is 2, that of the saved state 7')
    expect(await refusal([three, one])).toBe('restored')
  })

  it('that is none is refused, and nothing is changed', async () => {
    await using mix = await open()
    await mix.next(5)
    const state = json(mix.state())
    const second = (change: object) => ({
      ...state,
      datasets: [state.datasets[0]!, { ...state.datasets[1]!, ...change }],
    })
    for (const wrong of [null, {}, second({ epoch: 0.5 }), second({ index: 1e6 }), second({ rows: -1 })]) {
      expect(() => mix.restore(wrong as DatasetMixState)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
      expect(json(mix.state())).toEqual(state)
    }
  })
})

describe('is refused:', () => {
  const refused = (datasets: unknown, message: string | RegExp) =>
    expect(open(datasets as { folder: string; weight: number }[])).rejects.toMatchObject({
      name: 'MorError',
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })

  it('datasets of different tokenizers, by name', async () => {
    const pairs = await Tokenizer.load(await savePairTokenizer())
    const other = await build('pairs', 'ab'.repeat(100), pairs)
    await refused(
      [...threeToOne(), { folder: other, weight: 1 }],
      new RegExp(
        `${a} was made with the tokenizer byte-level \\(vocabulary 257\\), and ${other} with .*tokenizer.json \\(vocabulary ${pairs.vocabSize}\\)`,
      ),
    )
  })

  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, '3', null])('a weight of %s', async (weight) => {
    await refused(
      [
        { folder: a, weight: 1 },
        { folder: b, weight },
      ],
      /datasets\[1\] \(.*b\): weight is .*/,
    )
  })

  it.each([[[]], [null], [{}], [[5]], [[{ folder: 5, weight: 1 }]], [[{ folder: 'a', weight: 1, share: 2 }]]])(
    'what is no list of datasets with weights: %j',
    async (datasets) => {
      await refused(datasets, /^DatasetMix.open: datasets/)
    },
  )

  it('a dataset that is not there', async () => {
    await expect(open([...threeToOne(), { folder: join(root, 'nowhere'), weight: 1 }])).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringMatching(/nowhere is not a token dataset/),
    })
  })
})
