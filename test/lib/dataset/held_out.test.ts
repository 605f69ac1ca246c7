// Which tokens of a block are held out: their number, that documents stay whole where they can, and that no token is lost.
import { describe, expect, it } from 'vitest'
import { Block, type Range } from '../../../lib/dataset/block.js'
import { chooseHeldOut, type Share } from '../../../lib/dataset/held_out.js'
import { Tokenizer } from '../../../lib/tokenizer.js'

const tokenizer = Tokenizer.byteLevel()

/** @param documents each as one or more segments */
function blockOf(documents: string[][]): Block {
  const block = new Block(true)
  for (const segments of documents) {
    for (const [i, text] of segments.entries()) {
      const ids = tokenizer.encode(text)
      block.push({ ids, bytes: ids.length, endsDocument: i === segments.length - 1 })
    }
  }
  return block
}

function shareOf(block: Block, wanted: number, row = 1): Share {
  return { wanted, tolerance: Math.floor(0.08 * wanted), least: row, most: block.tokens - row, row }
}

const sizeOf = (ranges: Range[]) => ranges.reduce((sum, { from, to }) => sum + to - from, 0)

/** A random number below 1, the same at every run. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

function randomDocuments(next: () => number): string[][] {
  const count = 1 + Math.floor(next() ** 3 * 200)
  const longest = 10 ** (1 + next() * 3)
  const line = () => `${'x'.repeat(Math.floor(next() * 60))}${next() < 0.7 ? '\n' : ' '}`
  return Array.from({ length: count }, () => {
    const size = Math.ceil(next() * longest)
    let text = ''
    while (text.length < size) text += line()
    const cut = Math.floor(text.length / 2)
    return next() < 0.5 || cut === 0 ? [text] : [text.slice(0, cut), text.slice(cut)]
  })
}

describe('what is held out', () => {
  it('is the wanted number of tokens within the tolerance, and leaves a row on both sides, for any documents', async () => {
    for (let seed = 1; seed <= 400; seed++) {
      const next = random(seed)
      const block = blockOf(randomDocuments(next))
      const row = 1 + Math.floor(next() * Math.min(200, block.tokens / 2 - 1))
      const wanted = Math.max(row, Math.floor(next() * 0.5 * block.tokens))
      const share = shareOf(block, wanted, row)
      const ranges = await chooseHeldOut(block, share, tokenizer)
      const held = sizeOf(ranges)
      const where = `seed ${seed}: ${held} of ${block.tokens}, wanted ${wanted}, row ${row}`
      expect(Math.abs(held - wanted), where).toBeLessThanOrEqual(share.tolerance + 1)
      expect(held, where).toBeGreaterThanOrEqual(row)
      expect(block.tokens - held, where).toBeGreaterThanOrEqual(row)
      let before = 0
      for (const { from, to } of ranges) {
        expect(from, where).toBeGreaterThanOrEqual(before)
        expect(to, where).toBeGreaterThan(from)
        before = to
      }
      expect(before, where).toBeLessThanOrEqual(block.tokens)
      expect(await chooseHeldOut(block, share, tokenizer)).toEqual(ranges)
    }
  })

  it('is whole documents where these are short, evenly spread', async () => {
    const block = blockOf(Array.from({ length: 1000 }, (_, i) => ['y'.repeat(20 + (i % 40))]))
    const ranges = await chooseHeldOut(block, shareOf(block, Math.floor(block.tokens / 20)), tokenizer)
    for (const { from, to } of ranges)
      expect([block.gaps.includes(from), block.gaps.includes(to)]).toEqual([true, true])
    const distances = ranges.slice(1).map(({ from }, i) => from - ranges[i]!.from)
    expect(ranges.length).toBeGreaterThan(20)
    expect(Math.max(...distances)).toBeLessThan(block.tokens / 12)
  })

  it('is cut out of a long document, after lines, else between words, else between characters', async () => {
    const lines = blockOf([[Array.from({ length: 2000 }, (_, i) => `line ${i}\n`).join('')]])
    const words = blockOf([['words '.repeat(3000)]])
    const characters = blockOf([['€'.repeat(5000)]])
    for (const [block, cut] of [
      [lines, /\n\|./],
      [words, /s\| | \|w/],
      [characters, /€\|€/],
    ] as const) {
      const bytes = Buffer.from(tokenizer.decode(block.segments[0]!.ids))
      const ranges = await chooseHeldOut(block, shareOf(block, 1500), tokenizer)
      expect(ranges.length).toBeGreaterThan(1)
      for (const place of ranges.flatMap(({ from, to }) => [from, to]).filter((place) => place < block.tokens))
        expect(`${bytes.subarray(0, place)}|${bytes.subarray(place)}`).toMatch(cut)
    }
  })
})

describe('a block', () => {
  it('comes back in parts that hold every token once, inside and outside as the ranges say', async () => {
    for (let seed = 1; seed <= 50; seed++) {
      const next = random(seed)
      const block = blockOf([...randomDocuments(next), ['']])
      const ranges = await chooseHeldOut(block, shareOf(block, Math.ceil(0.3 * block.tokens)), tokenizer)
      const flags: boolean[] = []
      for (const { inside, segment, from, to } of block.parts(ranges)) {
        const isEnd = segment.endsDocument && to === segment.ids.length
        flags.push(...new Array(to - from + (isEnd ? 1 : 0)).fill(inside))
      }
      expect(flags.length).toBe(block.tokens)
      const expected = flags.map((_, place) => ranges.some(({ from, to }) => place >= from && place < to))
      expect(flags).toEqual(expected)
    }
  })
})
