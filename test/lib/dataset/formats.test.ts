// Reading corpora in every format: the same texts come out of each, and a damaged file is named with the place.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { parquetTexts } from '../../../lib/dataset/parquet.js'
import { readSegments, type SourcePlace } from '../../../lib/dataset/source.js'
import { longestBlock } from '../tokenizer/pair_tokenizer.js'

// Each Parquet file starts a thread, which loads the sources; a machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const texts = Array.from({ length: 300 }, (_, i) => `text ${i} – ünïcode 😀\n${'word '.repeat((i * 7919) % 400)}`)
const jsonl = texts.map((text) => `${JSON.stringify({ text })}\n`).join('')
let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-formats-'))
})

function file(name: string, content: string | Uint8Array): string {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

/** What a program of the system makes of `input`; null where it is not installed. */
function pack(program: 'xz' | 'zstd', input: string | Uint8Array, ...options: string[]): Buffer | null {
  const { status, stdout } = spawnSync(program, ['-c', ...options], {
    input,
    maxBuffer: 2 ** 26,
  })
  return status === 0 ? stdout : null
}

function parquet(values: readonly unknown[], options: object = {}): Uint8Array {
  const data = Array.from(values)
  return new Uint8Array(
    parquetWriteBuffer({
      columnData: [
        { name: 'id', data: data.map((_, i) => i) },
        { name: 'text', data, type: 'STRING' },
      ],
      rowGroupSize: 100,
      ...options,
    }),
  )
}

async function documentsOf(path: string, options: object = {}): Promise<string[]> {
  const documents = ['']
  const read = { textField: 'text', format: null, signal: undefined, ...options }
  for await (const { text, endsDocument } of readSegments([path], read)) {
    documents[documents.length - 1] += text
    if (endsDocument) documents.push('')
  }
  expect(documents.pop()).toBe('')
  return documents
}

describe('the same texts come out of', () => {
  it('gzip, also of several members', async () => {
    const half = jsonl.indexOf('\n', jsonl.length / 2) + 1
    expect(await documentsOf(file('a.jsonl.gz', gzipSync(jsonl)))).toEqual(texts)
    const members = Buffer.concat([gzipSync(jsonl.slice(0, half)), gzipSync(jsonl.slice(half))])
    expect(await documentsOf(file('b.jsonl.gz', members))).toEqual(texts)
    expect(await documentsOf(file('c.txt.gz', gzipSync('plain\ntext')))).toEqual(['plain\ntext'])
    for (const zeros of [1, 8, 300_000]) {
      const padded = Buffer.concat([members, Buffer.alloc(zeros)])
      expect(await documentsOf(file('d.jsonl.gz', padded)), `${zeros} zeros behind it`).toEqual(texts)
    }
  })

  const packers = (['xz', 'zstd'] as const).filter((program) => pack(program, 'x') !== null)
  it.each(packers)('%s, also of several streams', async (program) => {
    const ending = program === 'xz' ? 'xz' : 'zst'
    const half = jsonl.indexOf('\n', jsonl.length / 2) + 1
    expect(await documentsOf(file(`a.jsonl.${ending}`, pack(program, jsonl)!))).toEqual(texts)
    const streams = Buffer.concat([pack(program, jsonl.slice(0, half))!, pack(program, jsonl.slice(half))!])
    expect(await documentsOf(file(`b.jsonl.${ending}`, streams))).toEqual(texts)
    const noise = Buffer.from(Array.from({ length: 300_000 }, (_, i) => 32 + ((Math.imul(i, 2654435761) >>> 25) % 90)))
    expect(await documentsOf(file(`c.txt.${ending}`, pack(program, noise)!))).toEqual([noise.toString()])
  })

  it.each(['UNCOMPRESSED', 'SNAPPY'] as const)('Parquet (%s) of several row groups', async (codec) => {
    expect(await documentsOf(file('a.parquet', parquet(texts, { codec })))).toEqual(texts)
  })

  it.each([
    ['GZIP', (bytes: Uint8Array) => gzipSync(bytes)],
    ['BROTLI', (bytes: Uint8Array) => brotliCompressSync(bytes)],
    ['ZSTD', (bytes: Uint8Array) => pack('zstd', bytes) ?? bytes],
  ] as const)('Parquet in pages of %s', async (codec, compress) => {
    if (codec === 'ZSTD' && !packers.includes('zstd')) return
    const bytes = parquet(texts, { codec, compressors: { [codec]: compress } })
    expect(await documentsOf(file('a.parquet', bytes))).toEqual(texts)
  })

  it('a file whose format is named', async () => {
    expect(await documentsOf(file('a', jsonl), { format: 'jsonl' })).toEqual(texts)
    expect(await documentsOf(file('b', parquet(texts)), { format: 'parquet' })).toEqual(texts)
    expect(await documentsOf(file('c.jsonl', 'no JSON'), { format: 'text' })).toEqual(['no JSON'])
  })

  it('Parquet with empty and missing texts, which are left out', async () => {
    expect(await documentsOf(file('a.parquet', parquet(['a', null, '', 'b'])))).toEqual(['a', 'b'])
  })

  it('Parquet of one large row group, without blocking the event loop, and not to the end if aborted', async () => {
    const many = Array.from({ length: 200_000 }, (_, i) => `text ${i}: ${texts[i % 300]!.slice(0, 100)}`)
    const path = file('a.parquet', parquet(many, { codec: 'SNAPPY', rowGroupSize: many.length }))
    const began = performance.now()
    const blocked = await longestBlock(() => parquetTexts(path, 'text', undefined).next())
    expect(blocked).toBeLessThan((performance.now() - began) / 3)
    const controller = new AbortController()
    setTimeout(() => controller.abort(), 20)
    const first = parquetTexts(path, 'text', controller.signal).next()
    await expect(first).rejects.toMatchObject({ code: 'ABORTED' })
  })
})

describe('damage is named with its place', () => {
  const rejects = (path: string, message: RegExp) =>
    expect(documentsOf(path)).rejects.toMatchObject({
      name: 'MorError',
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
  const damage = (bytes: Uint8Array, at: number, count = 8) => {
    const copy = Buffer.from(bytes)
    for (let i = at; i < at + count; i++) copy[i]! ^= 0xa5
    return copy
  }

  it.each(['gz', 'xz', 'zst'])('an archive (%s) that is cut short or damaged', async (ending) => {
    const packed = ending === 'gz' ? gzipSync(jsonl) : pack(ending === 'xz' ? 'xz' : 'zstd', jsonl)
    if (packed === null) return
    const where = new RegExp(`a\\.jsonl\\.${ending} is compressed with \\w+, and damaged or cut short near byte \\d+`)
    for (const length of [10, packed.length >> 1, packed.length - 4])
      await rejects(file(`a.jsonl.${ending}`, packed.subarray(0, length)), where)
    await rejects(file(`a.jsonl.${ending}`, damage(packed, packed.length >> 1)), /a\.jsonl\.\w+(,|:| is compressed)/)
    await rejects(file(`a.jsonl.${ending}`, 'no archive at all'), where)
  })

  it.each([1, 8, 300_000])(
    'an archive of gzip with a member behind %i zeros, where Node takes it to end',
    async (zeros) => {
      const member = gzipSync(jsonl)
      const bytes = Buffer.concat([member, Buffer.alloc(zeros), member])
      const behind = new RegExp(`: there is data after the zero bytes that end the archive at byte ${member.length}$`)
      await rejects(file('a.jsonl.gz', bytes), behind)
    },
  )

  it('an archive of xz: what is wrong with it', async () => {
    const packed = pack('xz', jsonl)
    if (packed === null) return
    await rejects(file('a.jsonl.xz', packed.subarray(0, packed.length >> 1)), /: it ends too early$/)
    await rejects(file('a.jsonl.xz', damage(packed, packed.length >> 1)), /: its data are damaged$/)
    await rejects(file('a.jsonl.xz', 'no archive at all'), /: it does not begin as xz does$/)
    await rejects(file('a.jsonl.xz', ''), /: it ends too early$/)
    const large = pack('xz', jsonl, '--lzma2=dict=512MiB')!
    await rejects(file('a.jsonl.xz', large), /: it needs more memory than those of xz -9: unpack it first$/)
    const check = pack('xz', jsonl, '--check=sha256')!
    await rejects(file('a.jsonl.xz', check), /: it uses options of xz that are not supported: unpack it first$/)
  })

  it('a Parquet file whose dictionary lacks a text, of which none goes missing without a word', async () => {
    // The indices of the text column, of a byte or less each, are the last of its pages.
    const texts = Array.from({ length: 100 }, (_, i) => `a text, one of five: ${i % 5}`)
    const bytes = new Uint8Array(
      parquetWriteBuffer({ columnData: [{ name: 'text', data: texts, type: 'STRING' }], codec: 'UNCOMPRESSED' }),
    )
    const end = bytes.length - 8 - Buffer.from(bytes).readUInt32LE(bytes.length - 8)
    let refused = 0
    for (let at = end - 30; at < end; at += 3) {
      const read = await documentsOf(file('a.parquet', damage(bytes, at, 1))).catch(() => null)
      if (read === null) refused++
      else expect(read.length, `byte ${at}`).toBe(100)
    }
    expect(refused).toBeGreaterThan(3)
  })

  it('a Parquet file with a damaged page header, with which hyparquet by itself never ends', async () => {
    const names = Array.from({ length: 100 }, (_, i) => `a text, one of five: ${i % 5}`)
    const columnData = [{ name: 'text', data: names, type: 'STRING' as const }]
    const bytes = new Uint8Array(parquetWriteBuffer({ columnData, codec: 'UNCOMPRESSED' }))
    const header = Buffer.from(bytes).lastIndexOf('one of five: 4') + 14
    // Each takes a size or a count out of the header, or changes its type.
    for (const [at, mask] of [
      [0, 96],
      [0, 99],
      [2, 112],
      [4, 5],
      [4, 107],
      [5, 4],
      [5, 128],
      [5, 244],
      [8, 2],
      [8, 128],
      [9, 128],
    ] as const) {
      const copy = Uint8Array.from(bytes)
      copy[header + at]! ^= mask
      await rejects(file('a.parquet', copy), /a\.parquet is a Parquet file that cannot be read in rows 0 to 99: /)
    }
  })

  it('a Parquet file that is cut short, damaged, without the column, or with something else than text', async () => {
    const bytes = parquet(texts)
    await rejects(file('a.parquet', bytes.subarray(0, 5000)), /a\.parquet is a Parquet file that cannot be read: /)
    await rejects(file('a.parquet', 'short'), /a\.parquet is a Parquet file that cannot be read: /)
    const second = bytes.length >> 1
    await rejects(file('a.parquet', damage(bytes, second)), /cannot be read in rows 1?00 to [12]99|not UTF-8/)
    const other = parquetWriteBuffer({ columnData: [{ name: 'body', data: ['x'] }] })
    await rejects(file('a.parquet', new Uint8Array(other)), /no column "text": its columns are body;/)
    const number = parquetWriteBuffer({ columnData: [{ name: 'text', data: [1, 2] }] })
    await rejects(file('a.parquet', new Uint8Array(number)), /row 0 has no string under "text"/)
  })

  it('text inside that is not UTF-8', async () => {
    await rejects(file('a.txt.gz', gzipSync(Uint8Array.of(65, 0xff))), /a\.txt\.gz, byte 1: the text is not UTF-8/)
    const lines = gzipSync(Buffer.concat([Buffer.from('{"text":"x"}\n'), Uint8Array.of(0xff)]))
    await rejects(file('a.jsonl.gz', lines), /a\.jsonl\.gz, line 2: the text is not UTF-8/)
    const bytes = Buffer.from(parquet(['plain', 'broken'], { codec: 'UNCOMPRESSED' }))
    bytes[bytes.indexOf('broken')] = 0xff
    await rejects(file('a.parquet', bytes), /a\.parquet .* rows 0 to 1: the text is not UTF-8/)
  })

  it('Parquet that is compressed as a whole or comes from standard input; JSON in an archive', async () => {
    await rejects(file('a.parquet.gz', gzipSync(parquet(texts))), /a\.parquet\.gz is Parquet, .* unpack it/)
    await expect(documentsOf('-', { format: 'parquet' })).rejects.toMatchObject({
      message: expect.stringContaining('standard input'),
    })
    await rejects(file('a.json.gz', gzipSync('[]')), /a\.json\.gz is a JSON file/)
  })
})

it('reading goes on from any place, and notices that the text before is another', async () => {
  const files = [file('a.jsonl', jsonl), file('b.txt', 'line\n'.repeat(20_000)), file('c.parquet', parquet(texts))]
  const options = { textField: 'text', format: null, signal: undefined }
  const all: { text: string; after: SourcePlace }[] = []
  for await (const segment of readSegments(files, options)) all.push(segment)
  for (let i = 0; i < all.length; i += 37) {
    const rest: string[] = []
    for await (const { text } of readSegments(files, options, all[i]!.after)) rest.push(text)
    expect(rest).toEqual(all.slice(i + 1).map(({ text }) => text))
  }
  writeFileSync(files[0]!, readFileSync(files[0]!, 'utf8').replace('text 20 ', 'test 20 '))
  const read = async (place: SourcePlace) => {
    for await (const _ of readSegments(files, options, place));
  }
  await expect(read(all[40]!.after)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining(`${files[0]} holds other text than when`),
  })
  await read(all[10]!.after)
})
