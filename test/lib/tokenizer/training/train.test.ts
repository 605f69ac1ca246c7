// Training byte-level BPE: the merges of a naive oracle, the same files at every run, and a tokenizer that gives texts back.
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { trainTokenizer } from '../../../../lib/index.js'
import { learnMerges } from '../../../../lib/tokenizer/training/merges.js'
import { WordCounts } from '../../../../lib/tokenizer/training/word_counts.js'
import { mor } from '../../cli/process.js'

interface CountedWord {
  symbols: number[]
  count: number
}

/** Counts all pairs anew for each merge. */
function naiveMerges(words: CountedWord[], symbols: number, most: number, leastCount: number) {
  let current = words.map(({ symbols, count }) => ({ symbols: [...symbols], count }))
  const merges: { left: number; right: number }[] = []
  while (merges.length < most) {
    const counts = new Map<string, number>()
    for (const word of current)
      for (let i = 1; i < word.symbols.length; i++) {
        const pair = `${word.symbols[i - 1]},${word.symbols[i]}`
        counts.set(pair, (counts.get(pair) ?? 0) + word.count)
      }
    const [best] = [...counts]
      .map(([pair, count]) => {
        const [left, right] = pair.split(',').map(Number)
        return { left: left!, right: right!, count }
      })
      .sort((a, b) => b.count - a.count || a.left - b.left || a.right - b.right)
    if (best === undefined || best.count < leastCount) break
    const symbol = symbols + merges.length
    merges.push({ left: best.left, right: best.right })
    current = current.map(({ symbols: before, count }) => {
      const after: number[] = []
      for (const next of before) {
        const last = after.at(-1)
        if (last === best.left && next === best.right) after[after.length - 1] = symbol
        else after.push(next)
      }
      return { symbols: after, count }
    })
  }
  return merges
}

function randomWords(seed: number, alphabet: number): CountedWord[] {
  let state = seed
  const next = (n: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return (state >>> 16) % n
  }
  return Array.from({ length: 80 }, () => ({
    symbols: Array.from({ length: 1 + next(12) }, () => next(alphabet)),
    count: 1 + next(5),
  }))
}

describe('merges', () => {
  it.each([2, 3, 8, 30])('are those of the oracle, in an alphabet of %s', async (alphabet) => {
    for (let seed = 1; seed < 12; seed++) {
      for (const leastCount of [1, 2, 9]) {
        const words = randomWords(seed, alphabet)
        const merges = await learnMerges(words, { symbols: alphabet, merges: 60, leastCount })
        expect(merges).toEqual(naiveMerges(words, alphabet, 60, leastCount))
      }
    }
  })

  it('do not overlap in a run of one symbol', async () => {
    const words = [{ symbols: new Array(9).fill(0), count: 3 }]
    expect(await learnMerges(words, { symbols: 1, merges: 9, leastCount: 1 })).toEqual(naiveMerges(words, 1, 9, 1))
  })

  it('stop when they are aborted', async () => {
    const words = Array.from({ length: 20_000 }, (_, i) => ({ symbols: [i, i + 1, i + 2, i + 3], count: 1 }))
    const options = { symbols: 30_000, merges: 30_000, leastCount: 1, signal: AbortSignal.abort() }
    await expect(learnMerges(words, options)).rejects.toMatchObject({ code: 'ABORTED' })
  })
})

it('words beyond the most that are kept are dropped, the rare ones first', () => {
  const counts = new WordCounts(3)
  counts.add('a a a b b b c c d e f')
  expect([...counts.words]).toEqual(
    expect.arrayContaining([
      [' a', 2],
      [' b', 3],
    ]),
  )
  expect(counts.words.size).toBeLessThanOrEqual(3)
})

describe('a trained tokenizer', () => {
  const text = `${'the cat sat on the mat. It’s 12 cats!\n'.repeat(50)}ünïcode 漢字 😀 `.repeat(3)
  const newFile = (content: string) => {
    const folder = mkdtempSync(join(tmpdir(), 'mor-train-tokenizer-'))
    writeFileSync(join(folder, 'a.txt'), content)
    return { folder, file: join(folder, 'a.txt') }
  }

  it('gives every text back, uses what it learnt, and is the same at every run', async () => {
    const { folder, file } = newFile(text)
    const specialTokens = ['<|end|>', '<|pad|>']
    const tokenizer = await trainTokenizer([file], join(folder, 'one'), { vocabSize: 290, specialTokens })
    expect(tokenizer).toMatchObject({ vocabSize: 290, eosTokenId: 0, bosTokenId: null })
    for (const sample of [text, 'never seen: \u0000\u007f zebra\r\n\t', '漢'])
      expect(tokenizer.decode(tokenizer.encode(sample))).toBe(sample)
    expect(tokenizer.encode('the cat').length).toBe(2)
    expect([...tokenizer.encode('a<|pad|><|end|>')].slice(1)).toEqual([1, 0])
    const again = await trainTokenizer([file], join(folder, 'two'), { vocabSize: 290, specialTokens })
    expect(again.fingerprint).toBe(tokenizer.fingerprint)
    const json = JSON.parse(readFileSync(join(folder, 'one', 'tokenizer.json'), 'utf8'))
    const ids = Object.values<number>(json.model.vocab) // tokens of digits come first in every object
    expect(ids.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 290 }, (_, id) => id))
    expect(json.model.merges.length).toBe(290 - 258)
    expect(json.added_tokens.map((token: { id: number; content: string }) => [token.id, token.content])).toEqual([
      [0, '<|end|>'],
      [1, '<|pad|>'],
    ])
  })

  it('has one id for a special token that merges make as well', async () => {
    const { folder, file } = newFile('### head\n#### deeper ###\n'.repeat(50))
    const specialTokens = ['<|end|>', '###']
    const tokenizer = await trainTokenizer([file], join(folder, 'out'), { vocabSize: 275, specialTokens })
    const { model } = JSON.parse(readFileSync(join(folder, 'out', 'tokenizer.json'), 'utf8'))
    expect(model.vocab['###']).toBe(1)
    expect(model.merges).toContainEqual(['##', '#'])
    const ids = Object.values<number>(model.vocab)
    expect(ids.toSorted((a, b) => a - b)).toEqual(Array.from({ length: tokenizer.vocabSize }, (_, id) => id))
    expect([...tokenizer.encode('###')]).toEqual([1])
    const text = '## a\n### head\n#### deeper\n##### b'
    expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: false })).toBe(text)
  })

  it('has fewer tokens where the text has no more pairs', async () => {
    const { folder, file } = newFile('ab ab')
    const tokenizer = await trainTokenizer([file], join(folder, 'out'), { vocabSize: 1000 })
    expect(tokenizer.vocabSize).toBe(258)
  })

  it.each([
    [{ vocabSize: 256 }, 'vocabSize is 256: it must be an integer from 257'],
    [{ vocabSize: 2 ** 20 + 1 }, 'to 1048576'],
    [{ vocabSize: 300.5 }, 'vocabSize is 300.5'],
    [{ vocabSize: 300, specialTokens: [] }, 'specialTokens is empty'],
    [{ vocabSize: 300, specialTokens: ['<a>', '<a>'] }, '"<a>" is given twice'],
  ])('is refused with %o', async (options, message) => {
    const { folder, file } = newFile(text)
    await expect(trainTokenizer([file], join(folder, 'out'), options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(message),
    })
    expect(existsSync(join(folder, 'out'))).toBe(false)
  })

  it('comes from the command, and prepares a dataset', { timeout: 120_000 }, async () => {
    const { folder, file } = newFile(text)
    const out = join(folder, 'tokenizer')
    const trained = await mor('tokenizer', 'train', file, '--vocab-size', '280', '--output', out)
    expect(trained).toMatchObject({ code: 0, stderr: '' })
    const last = trained.stdout.trimEnd().split('\n').at(-1)!
    expect(JSON.parse(last)).toEqual({ type: 'tokenizer', folder: out, vocabSize: 280 })
    const data = join(folder, 'data')
    expect(await mor('prepare', file, '--tokenizer', out, '--output', data)).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(readFileSync(join(data, 'dataset.json'), 'utf8')).tokenizer.vocab_size).toBe(280)
  })
})
