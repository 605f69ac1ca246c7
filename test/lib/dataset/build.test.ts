// Building datasets: every byte of the text arrives, in order, split as asked; bad input names what is wrong and leaves nothing.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { beforeEach, describe, expect, it } from 'vitest'
import { buildDataset, Dataset, type DatasetInfo, type SplitName } from '../../../lib/dataset.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { longestBlock, randomLetters, savePairTokenizer } from '../tokenizer/pair_tokenizer.js'

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
    const changes: Partial<Tokenizer> = {
      vocabSize: 70000,
      eosTokenId: 69999,
      encodeBatch: async (texts) => texts.map(() => Int32Array.of(0, 65536)),
    }
    const large: Tokenizer = Object.create(tokenizer, Object.getOwnPropertyDescriptors(changes))
    const source = file('a.ndjson', '{"body": "x"}\n')
    const info = await buildDataset([source], join(folder, 'out'), { tokenizer: large, textField: 'body' })
    expect(info.dtype).toBe('uint32')
    expect(idsOf(join(folder, 'out'), info, 'train')).toEqual([0, 65536, 69999])
  })

  it('without blocking the event loop, and not to the end if aborted', { timeout: 120_000 }, async () => {
    const pairs = await Tokenizer.load(await savePairTokenizer())
    const source = file('a.txt', `${randomLetters(20_000)}\n`.repeat(3))
    const build = (signal?: AbortSignal) =>
      buildDataset([source], join(folder, 'out'), { tokenizer: pairs, validationFraction: 0.1, signal })
    await build()
    const began = performance.now()
    const blocked = await longestBlock(() => build())
    expect(blocked).toBeLessThan((performance.now() - began) / 3)
    const controller = new AbortController()
    setTimeout(() => controller.abort(), 20)
    await expect(build(controller.signal)).rejects.toMatchObject({ code: 'ABORTED' })
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

  const shareOf = ({ splits: { train, validation } }: DatasetInfo) =>
    validation.tokens / (train.tokens + validation.tokens)
  const lines = (bytes: number) =>
    Array.from({ length: bytes / 10 }, (_, i) => `${String(i).padStart(9, '-')}\n`).join('')

  it.each([
    ['8.6 KB, of which a row is more than the share', lines(8600), 0.05, 513 / 8601],
    ['20 KB', lines(20_000), 0.05, 0.05],
    ['50 KB in halves', lines(50_000), 0.5, 0.5],
    ['100 KB', lines(100_000), 0.05, 0.05],
    ['one line of 184 KB', lines(184_000).replaceAll('\n', ' '), 0.05, 0.05],
    ['a hundred thousand characters without a space', '漢字'.repeat(50_000), 0.1, 0.1],
  ])('has its share of the tokens within 10%, and a row: %s', async (_, text, validationFraction, expected) => {
    const options = { tokenizer, validationFraction, length: 512 }
    const info = await buildDataset([file('a.txt', text)], join(folder, 'out'), options)
    expect(Math.abs(shareOf(info) / expected - 1)).toBeLessThan(0.1)
    for (const split of ['train', 'validation'] as const)
      await (await Dataset.open(join(folder, 'out'), { length: 512, split })).close()
    const pieces = (['train', 'validation'] as const).flatMap((split) =>
      documentsOf(idsOf(join(folder, 'out'), info, split)),
    )
    expect(pieces.join('').length).toBe(text.length)
    if (!text.includes('漢')) expect(pieces.toSorted((a, b) => text.indexOf(a) - text.indexOf(b)).join('')).toBe(text)
    const bytes = info.splits.train.bytes + info.splits.validation.bytes
    expect(bytes).toBe(Buffer.byteLength(text))
  })

  it('has its share of the tokens of documents long and short, also where a tokenizer gives them unequal numbers', async () => {
    const pairs = await Tokenizer.load(await savePairTokenizer())
    const texts = Array.from({ length: 60 }, (_, i) => (i % 3 === 0 ? randomLetters(3000) : '0123456789'.repeat(i)))
    const source = file('a.jsonl', texts.map((text) => JSON.stringify({ text })).join('\n'))
    const build = (out: string) =>
      buildDataset([source], join(folder, out), { tokenizer: pairs, validationFraction: 0.2, length: 64 })
    const info = await build('out')
    expect(Math.abs(shareOf(info) / 0.2 - 1)).toBeLessThan(0.1)
    const decoded = idsOf(join(folder, 'out'), info, 'validation').filter((id) => id !== 256)
    expect(info.splits.validation.bytes).toBe(Buffer.byteLength(pairs.decode(decoded)))
    expect((await build('again')).splits).toEqual(info.splits)
    for (const split of ['train', 'validation'] as const)
      expect(idsOf(join(folder, 'again'), info, split)).toEqual(idsOf(join(folder, 'out'), info, split))
  })

  it('exists in any text of two rows, and is refused in less, with what to do', async () => {
    const length = 20
    for (const text of [lines(50).slice(0, 41), 'x'.repeat(41)]) {
      await buildDataset([file('a.txt', text)], join(folder, 'out'), { tokenizer, validationFraction: 0.05, length })
      for (const split of ['train', 'validation'] as const)
        await (await Dataset.open(join(folder, 'out'), { length, split })).close()
    }
    const options = { tokenizer, validationFraction: 0.05, length }
    const build = buildDataset([file('a.txt', 'x'.repeat(40))], join(folder, 'out'), options)
    await expect(build).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(
        /^41 tokens .* too few to hold out 0\.05 .* length \+ 1 = 21.*a length of at most 19, or 0/,
      ),
    })
    await buildDataset([file('a.txt', 'x'.repeat(40))], join(folder, 'out'), { ...options, length: 19 })
  })

  it('is taken of every part of a dataset that is divided in several blocks', { timeout: 120_000 }, async () => {
    const text = lines(5_000_000)
    const options = { tokenizer, validationFraction: 0.01, length: 128 }
    const info = await buildDataset([file('a.txt', text)], join(folder, 'out'), options)
    expect(Math.abs(shareOf(info) / 0.01 - 1)).toBeLessThan(0.02)
    const linesOf = (split: SplitName) => {
      const bytes = readFileSync(join(folder, 'out', info.splits[split].shards[0]!.file)).filter((_, i) => i % 2 === 0)
      return Buffer.from(bytes).toString().replaceAll('\0', '').trimEnd().split('\n')
    }
    const [train, validation] = [linesOf('train'), linesOf('validation')]
    expect([...train, ...validation].toSorted()).toEqual(text.trimEnd().split('\n'))
    const places = validation.map((line) => Number(line.replaceAll('-', '')))
    for (const end of [1e5, 2e5, 3e5, 4e5, 5e5])
      expect(places.filter((place) => place >= end - 1e5 && place < end).length).toBeGreaterThan(500)
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
    ['the same, by its value', 'a.jsonl', `{"id":1,"text":5}`, 'has no string under "text": it holds 5 there;'],
    ['no text in the field', 'a.jsonl', `${line}{"text":null}`, 'has no string under "text": it holds null there;'],
    ['a line that is no object', 'a.jsonl', `${line}17`, 'line 2 has no string under "text": it is 17'],
    ['an array as a line', 'a.jsonl', '[{"text":"x"}]', 'line 1 has no string under "text": it is an array'],
    [
      'many keys',
      'a.jsonl',
      JSON.stringify(Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`k${i}`, i]))),
      'k19, …;',
    ],
    ['an array in a JSON file', 'a.json', '[{"text":"x"}]', 'a.json is a JSON file'],
    ['an array in a file of another name', 'a.txt', '\ufeff\n[\n  { "text": "x" }\n]', 'a.txt begins like JSON'],
    [
      'JSON lines in a file of another name',
      'a',
      `${line}${line}`,
      'a begins like JSON, but its name does not end in .jsonl',
    ],
    ['a gzip file', 'a.jsonl', gzipSync(line), 'a.jsonl is compressed with gzip, not UTF-8 text: unpack it'],
    ['a zip file', 'a.txt', Buffer.from('PK\x03\x04\x14\0'), 'a.txt is a zip archive'],
    ['a Parquet file', 'a.parquet', Buffer.from('PAR1\x15\x04'), 'a.parquet is a Parquet file'],
    ['a zstd file', 'a.zst', Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 4), 'compressed with zstd'],
    ['an xz file', 'a.xz', Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0), 'compressed with xz'],
    ['UTF-16 with a byte-order mark', 'a.txt', Buffer.from('\ufeffhello', 'utf16le'), 'a.txt is text in UTF-16'],
    ['UTF-16 without one', 'a.txt', Buffer.from('hello', 'utf16le'), 'a.txt: byte 1 is zero'],
    ['JSON lines in UTF-16', 'a.jsonl', Buffer.from(line, 'utf16le'), 'a.jsonl: byte 1 is zero'],
    [
      'a zero byte far inside',
      'a.txt',
      Buffer.concat([Buffer.alloc(300_000, 120), Uint8Array.of(0)]),
      'byte 300000 is zero',
    ],
    ['a null line', 'a.jsonl', 'null', 'line 1 has no string under "text": it is null'],
    ['text that is not UTF-8', 'a.txt', Uint8Array.of(65, 0xff, 66), 'a.txt, byte 1: the text is not UTF-8'],
    [
      'text that ends inside a character',
      'a.txt',
      Uint8Array.of(65, 0xe2, 0x82),
      'a.txt, byte 1: the text is not UTF-8',
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
    await expect(buildDataset([folder], join(folder, 'out'), { tokenizer })).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining(`${folder} is a folder: name the text files in it`),
    })
    const dataset = join(folder, 'dataset')
    await buildDataset([file('a.txt', 'text')], dataset, { tokenizer })
    await expect(
      buildDataset([dataset, join(folder, 'a.txt')], join(folder, 'out'), { tokenizer }),
    ).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining(`${dataset} is a dataset: give it alone`),
    })
  })

  it('options out of range, a tokenizer without end token', async () => {
    const source = file('a.txt', 'text')
    for (const wrong of [
      { validationFraction: 0.7 },
      { validationFraction: Number.NaN },
      { shardTokens: 0 },
      { length: 0 },
      { length: 1.5 },
    ]) {
      await expect(buildDataset([source], join(folder, 'out'), { tokenizer, ...wrong })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      })
    }
    const endless: Tokenizer = Object.create(tokenizer, { eosTokenId: { value: null } })
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

  it('a second build into the folder is refused while the first goes on, which is as if it were alone', async () => {
    const out = join(folder, 'out')
    const lines = Array.from({ length: 2000 }, (_, i) => JSON.stringify({ text: `line ${i}` }))
    const source = file('long.jsonl', lines.join('\n'))
    const alone = await buildDataset([source], join(folder, 'alone'), { tokenizer, shardTokens: 1000 })
    let second: Promise<unknown> | undefined
    const onProgress = () => {
      second ??= expect(buildDataset([source], out, { tokenizer })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(`^process ${process.pid} has been writing into ${out}.partial since `),
      })
    }
    const first = await buildDataset([source], out, { tokenizer, shardTokens: 1000, onProgress })
    await second
    expect(second).toBeDefined()
    expect(idsOf(out, first, 'train')).toEqual(idsOf(join(folder, 'alone'), alone, 'train'))
    await buildDataset([source], out, { tokenizer })
    expect(readdirSync(folder).toSorted()).toEqual(['alone', 'long.jsonl', 'out'])
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

  it('nor is one that other things come into while the dataset is built', async () => {
    const source = file('a.txt', 'text')
    const out = join(folder, 'out')
    await buildDataset([source], out, { tokenizer })
    const before = readFileSync(join(out, 'train-00000.bin'))
    const onProgress = () => mkdirSync(join(out, 'run'), { recursive: true })
    await expect(buildDataset([file('b.txt', 'other')], out, { tokenizer, onProgress })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`${out} holds run beside a dataset`),
    })
    expect(readFileSync(join(out, 'train-00000.bin'))).toEqual(before)
  })

  it("nor is one of the user's own where the dataset would be built", async () => {
    const partial = join(folder, 'books.partial')
    mkdirSync(join(partial, 'sub'), { recursive: true })
    writeFileSync(join(partial, 'a.txt'), 'precious')
    for (const source of [join(partial, 'a.txt'), file('b.txt', 'text')])
      await expect(buildDataset([source], join(folder, 'books'), { tokenizer })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(
          /books\.partial, where the dataset would be built, holds (a\.txt|sub): choose another/,
        ),
      })
    expect(readFileSync(join(partial, 'a.txt'), 'utf8')).toBe('precious')
    expect(existsSync(join(partial, 'sub'))).toBe(true)
  })

  it('nor is one that a link leads to', async () => {
    const [target, link] = [join(folder, 'target'), join(folder, 'link')]
    mkdirSync(target)
    symlinkSync(target, link)
    await expect(buildDataset([file('a.txt', 'text')], link, { tokenizer })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(
        `is a link, which a new folder would replace: give the folder that it leads to, ${target}`,
      ),
    })
  })

  it('nor is one with other things beside a dataset, or with a dataset.json of another program', async () => {
    const source = file('a.txt', 'text')
    const out = join(folder, 'out')
    await buildDataset([source], out, { tokenizer })
    writeFileSync(join(out, 'thesis.doc'), 'precious')
    await expect(buildDataset([source], out, { tokenizer })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`${out} holds thesis.doc beside a dataset that would be replaced`),
    })
    expect(readFileSync(join(out, 'thesis.doc'), 'utf8')).toBe('precious')
    const foreign = join(folder, 'foreign')
    mkdirSync(foreign)
    for (const content of ['{"title":"mine"}', 'no JSON', 'null']) {
      writeFileSync(join(foreign, 'dataset.json'), content)
      await expect(buildDataset([source], foreign, { tokenizer })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(`${foreign} holds dataset.json and is not a dataset`),
      })
      expect(readFileSync(join(foreign, 'dataset.json'), 'utf8')).toBe(content)
    }
  })

  it('nor is one in which a disk is mounted, before anything is read', async () => {
    await expect(buildDataset([file('a.jsonl', '{')], '/proc', { tokenizer })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message:
        '/proc is where a disk is mounted, which no new folder can replace: choose a folder in it, such as /proc/dataset',
    })
  })
})
