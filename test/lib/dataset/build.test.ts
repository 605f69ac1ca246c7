// Building datasets: every byte of the text arrives, in order, split as asked; bad input names what is wrong and leaves nothing.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { buildDataset, Dataset, type DatasetInfo, type SplitName } from '../../../lib/dataset.js'
import { Tokenizer } from '../../../lib/tokenizer.js'

const tokenizer = Tokenizer.byteLevel()
let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-dataset-'))
})

function file(name: string, content: string | Uint8Array): string {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

/** All ids of a split, straight from the files. */
function idsOf(dataset: string, info: DatasetInfo, split: SplitName): number[] {
  return info.splits[split].shards.flatMap(({ file: name }) => {
    const bytes = readFileSync(join(dataset, name))
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)
    return [...(info.dtype === 'uint16' ? new Uint16Array(buffer) : new Uint32Array(buffer))]
  })
}

/** The texts between end tokens; nothing may stand after the last one. */
function documentsOf(ids: number[]): string[] {
  const documents: string[] = []
  let start = 0
  for (let end = ids.indexOf(256); end >= 0; end = ids.indexOf(256, start)) {
    documents.push(Buffer.from(ids.slice(start, end)).toString())
    start = end + 1
  }
  expect(start).toBe(ids.length)
  return documents
}

describe('what is written', () => {
  it('a JSONL file: one document a line, an end token after each', async () => {
    const texts = ['first', 'zwöi', 'line\u2028separator\ninside', 'last']
    const lines = texts.map((text, i) => JSON.stringify({ id: i, text }))
    const source = file('a.jsonl', `\ufeff${lines[0]}\r\n\n${lines.slice(1).join('\n')}`)
    const info = await buildDataset([source], join(folder, 'out'), { tokenizer })
    const ids = idsOf(join(folder, 'out'), info, 'train')
    expect(documentsOf(ids)).toEqual(texts)
    const bytes = Buffer.byteLength(texts.join(''))
    expect(info).toMatchObject({
      dtype: 'uint16',
      splits: { train: { tokens: bytes + 4, bytes, documents: 4 }, validation: { tokens: 0 } },
    })
    expect(info.tokenizer).toEqual({
      name: 'byte-level',
      fingerprint: tokenizer.fingerprint,
      vocab_size: 257,
      end_token_id: 256,
    })
  })

  it('text files: one document each, whatever their length, and characters stay whole where a read or a segment ends', async () => {
    // One character more, and the cut of a text without line ends would fall into a pair of surrogates.
    const long = `x${'é€😀'.repeat(50000)}`
    const lines = Array.from({ length: 40000 }, (_, i) => `line ${i} – ünïcode\n`).join('')
    const sources = [file('long.txt', long), file('lines.txt', lines), file('short.txt', 'x')]
    const info = await buildDataset(sources, join(folder, 'out'), { tokenizer })
    expect(documentsOf(idsOf(join(folder, 'out'), info, 'train'))).toEqual([long, lines, 'x'])
  })

  it('shards of the size asked for, which read back as one stream', async () => {
    const text = 'abcdefghij'.repeat(25)
    const info = await buildDataset([file('a.txt', text)], join(folder, 'out'), { tokenizer, shardTokens: 100 })
    expect(info.splits.train.shards.map((shard) => shard.tokens)).toEqual([100, 100, 51])
    expect(documentsOf(idsOf(join(folder, 'out'), info, 'train'))).toEqual([text])
  })

  it('shards larger than what is written at once', async () => {
    const shardTokens = 2 ** 20 + 5
    const text = 'abcdefghijk'.repeat(230000)
    const info = await buildDataset([file('a.txt', text)], join(folder, 'out'), { tokenizer, shardTokens })
    const rest = text.length + 1 - 2 * shardTokens
    expect(info.splits.train.shards.map((shard) => shard.tokens)).toEqual([shardTokens, shardTokens, rest])
    await using dataset = await Dataset.open(join(folder, 'out'), { length: 1000 })
    let read = ''
    for await (const rows of dataset.sequential(64))
      for (const row of rows) read += tokenizer.decode(row.subarray(0, 1000))
    expect(read).toBe(text.slice(0, read.length))
    expect(read.length).toBe(2530000)
  })

  it('another field, another JSONL suffix, and 32-bit ids for a large vocabulary', async () => {
    const large: Tokenizer = {
      ...tokenizer,
      vocabSize: 70000,
      eosTokenId: 69999,
      encode: () => Int32Array.of(0, 65536),
    }
    const source = file('a.ndjson', '{"body": "x"}\n')
    const info = await buildDataset([source], join(folder, 'out'), { tokenizer: large, textField: 'body' })
    expect(info.dtype).toBe('uint32')
    expect(idsOf(join(folder, 'out'), info, 'train')).toEqual([0, 65536, 69999])
  })

  it('progress that ends at the totals', async () => {
    const progress: { bytes: number; tokens: number }[] = []
    const info = await buildDataset([file('a.jsonl', '{"text":"ab"}\n{"text":"cde"}\n')], join(folder, 'out'), {
      tokenizer,
      onProgress: (p) => progress.push(p),
    })
    expect(progress.at(-1)).toEqual({ bytes: 5, tokens: info.splits.train.tokens })
  })
})

describe('the validation split', () => {
  const documents = Array.from({ length: 400 }, (_, i) => `document ${i} ${'x'.repeat(i % 37)}`)

  it('takes whole documents of a JSONL file, evenly spread, and its share of the bytes', async () => {
    const source = file('a.jsonl', documents.map((text) => JSON.stringify({ text })).join('\n'))
    const info = await buildDataset([source], join(folder, 'out'), { tokenizer, validationFraction: 0.1 })
    const train = documentsOf(idsOf(join(folder, 'out'), info, 'train'))
    const validation = documentsOf(idsOf(join(folder, 'out'), info, 'validation'))
    expect([...train, ...validation].toSorted()).toEqual(documents.toSorted())
    const share = info.splits.validation.bytes / (info.splits.validation.bytes + info.splits.train.bytes)
    expect(Math.abs(share - 0.1)).toBeLessThan(0.002)
    const places = validation.map((text) => documents.indexOf(text))
    expect(Math.max(...places.slice(1).map((place, i) => place - places[i]!))).toBeLessThan(20)
  })

  it('cuts a plain text after line ends and marks the gaps', async () => {
    const text = Array.from({ length: 20000 }, (_, i) => `line ${i}\n`).join('')
    const info = await buildDataset([file('a.txt', text)], join(folder, 'out'), { tokenizer, validationFraction: 0.2 })
    const train = documentsOf(idsOf(join(folder, 'out'), info, 'train'))
    const validation = documentsOf(idsOf(join(folder, 'out'), info, 'validation'))
    expect(validation.length).toBeGreaterThan(1)
    const pieces = [...train, ...validation].toSorted((a, b) => text.indexOf(a) - text.indexOf(b))
    expect(pieces.join('')).toBe(text)
    for (const piece of pieces) expect(piece.endsWith('\n')).toBe(true)
  })

  it('is refused where the text is too short to give one', async () => {
    const build = buildDataset([file('a.txt', 'short')], join(folder, 'out'), { tokenizer, validationFraction: 0.1 })
    await expect(build).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('too few to hold out 0.1'),
    })
  })
})

describe('bad input', () => {
  const line = '{"text":"fine"}\n'
  it.each([
    ['an empty text file', 'a.txt', '', 'a.txt holds no text'],
    ['an empty JSONL file', 'a.jsonl', '\n \n', 'a.jsonl holds no text'],
    ['only empty documents', 'a.jsonl', '{"text":""}', 'a.jsonl holds no text'],
    ['a line that is not JSON', 'a.jsonl', `${line}${line}{"text": "cut`, 'a.jsonl, line 3 is not JSON'],
    [
      'a line without the field',
      'a.jsonl',
      `\n\n${line}\n{"body":"x","id":1}`,
      'a.jsonl, line 5 has no string under "text": its keys are body, id',
    ],
    ['a field of another type', 'a.jsonl', `{"text":5}`, 'line 1 has no string under "text"'],
    ['a line that is no object', 'a.jsonl', `${line}17`, 'line 2 has no string under "text": it is 17'],
    ['a null line', 'a.jsonl', 'null', 'line 1 has no string under "text": it is null'],
    ['text that is not UTF-8', 'a.txt', Uint8Array.of(65, 0xff, 66), 'a.txt, near byte 0: the text is not UTF-8'],
    [
      'text that ends inside a character',
      'a.txt',
      Uint8Array.of(65, 0xe2, 0x82),
      'a.txt, at its end: the text is not UTF-8',
    ],
    [
      'a JSONL line that is not UTF-8',
      'a.jsonl',
      Buffer.concat([Buffer.from(line), Uint8Array.of(0xff)]),
      'a.jsonl, line 2: the text is not UTF-8',
    ],
  ])('%s', async (_, name, content, message) => {
    const build = buildDataset([file(name, content)], join(folder, 'out'), { tokenizer })
    await expect(build).rejects.toMatchObject({
      name: 'MorError',
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(message),
    })
    expect(readdirSync(folder)).toEqual([name])
  })

  it('no file, a missing file, a folder as file', async () => {
    await expect(buildDataset([], join(folder, 'out'), { tokenizer })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
    await expect(buildDataset([join(folder, 'none.txt')], join(folder, 'out'), { tokenizer })).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining('none.txt'),
    })
    await expect(buildDataset([folder], join(folder, 'out'), { tokenizer })).rejects.toMatchObject({ code: 'IO_ERROR' })
  })

  it('options out of range, a tokenizer without end token', async () => {
    const source = file('a.txt', 'text')
    for (const wrong of [{ validationFraction: 0.7 }, { validationFraction: Number.NaN }, { shardTokens: 0 }]) {
      await expect(buildDataset([source], join(folder, 'out'), { tokenizer, ...wrong })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      })
    }
    const endless: Tokenizer = { ...tokenizer, eosTokenId: null }
    await expect(buildDataset([source], join(folder, 'out'), { tokenizer: endless })).rejects.toMatchObject({
      message: expect.stringContaining('no end token'),
    })
  })

  it('an earlier dataset stays whole when the next build fails or is aborted, and is replaced when it does not', async () => {
    const out = join(folder, 'out')
    const good = file('good.txt', 'good')
    const bad = file('bad.jsonl', '{')
    await buildDataset([good], out, { tokenizer })
    await expect(buildDataset([good, bad], out, { tokenizer })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect(buildDataset([good], out, { tokenizer, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
    })
    await using kept = await Dataset.open(out, { length: 4 })
    expect(Buffer.from((await kept.next(1))[0]!.slice(0, 4)).toString()).toBe('good')
    expect(readdirSync(folder).toSorted()).toEqual(['bad.jsonl', 'good.txt', 'out'])
    const other = await buildDataset([file('other.txt', 'other')], out, { tokenizer })
    expect(documentsOf(idsOf(out, other, 'train'))).toEqual(['other'])
  })

  it('a folder with other things in it is not touched', async () => {
    const out = join(folder, 'mine')
    mkdirSync(out)
    writeFileSync(join(out, 'thesis.doc'), 'precious')
    await expect(buildDataset([file('a.txt', 'text')], out, { tokenizer })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('thesis.doc'),
    })
    expect(existsSync(join(out, 'thesis.doc'))).toBe(true)
  })
})
