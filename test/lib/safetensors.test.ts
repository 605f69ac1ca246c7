// Headers that are right are read exactly; every way of being wrong is refused by name.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { MorError } from '../../lib/errors.js'
import { buildSafetensorsHeader, readSafetensorsFile } from '../../lib/safetensors.js'

const folder = mkdtempSync(join(tmpdir(), 'mor-safetensors-'))
afterAll(() => rmSync(folder, { recursive: true }))

let files = 0
/** A file with the given header text and `data` zero bytes. */
function fileOf(header: unknown, data: number, claimed?: bigint): string {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(claimed ?? BigInt(json.length))
  return fileOfBytes(Buffer.concat([length, json, Buffer.alloc(data)]))
}

function fileOfBytes(bytes: Uint8Array): string {
  const path = join(folder, `${files++}.safetensors`)
  writeFileSync(path, bytes)
  return path
}

const a = { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] }
const b = { dtype: 'BF16', shape: [4], data_offsets: [24, 32] }

describe('reading', () => {
  it('gives dtype, shape and absolute place of every tensor in file order', async () => {
    const path = fileOf({ b, __metadata__: { format: 'pt' }, a }, 32)
    const { tensors, metadata } = await readSafetensorsFile(path)
    const start = 8 + JSON.stringify({ b, __metadata__: { format: 'pt' }, a }).length
    expect(tensors).toEqual([
      { name: 'a', dtype: 'F32', shape: [2, 3], offset: start, bytes: 24 },
      { name: 'b', dtype: 'BF16', shape: [4], offset: start + 24, bytes: 8 },
    ])
    expect(metadata).toEqual({ format: 'pt' })
  })

  it('accepts scalars, empty tensors, padding and no tensors at all', async () => {
    const scalar = { dtype: 'F32', shape: [], data_offsets: [0, 4] }
    const empty = { dtype: 'F32', shape: [0, 5], data_offsets: [4, 4] }
    const padded = `${JSON.stringify({ scalar, empty })}      `
    const { tensors } = await readSafetensorsFile(fileOf(padded, 4))
    expect(tensors.map(({ name, bytes }) => [name, bytes])).toEqual([
      ['scalar', 4],
      ['empty', 0],
    ])
    expect((await readSafetensorsFile(fileOf('{}', 0))).tensors).toEqual([])
  })

  it.each<[string, () => string, RegExp]>([
    ['an empty file', () => fileOfBytes(new Uint8Array()), /truncated: it has 0 bytes/],
    [
      'a file cut in its header',
      () => fileOf('{}', 0, 100n),
      /truncated: the header claims 100 bytes, and the file holds 2/,
    ],
    [
      'a header over the limit',
      () => fileOf('{}', 0, 100_000_001n),
      /the header claims 100000001 bytes; the format allows 100000000/,
    ],
    ['a header length of 2^63', () => fileOf('{}', 0, 1n << 63n), /the format allows 100000000/],
    ['no JSON', () => fileOf('{"a":', 0), /the header is not JSON/],
    ['an empty header', () => fileOf('', 4), /the header is not JSON/],
    ['invalid UTF-8', () => fileOfBytes(Buffer.from([2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe])), /the header is not JSON/],
    ['a list', () => fileOf([], 0), /the header is \[\], not an object/],
    ['null', () => fileOf('null', 0), /the header is null/],
    ['a repeated tensor', () => fileOf(`{"a":${JSON.stringify(a)},"a":${JSON.stringify(a)}}`, 24), /holds "a" twice/],
    [
      'a repeated field',
      () => fileOf('{"a":{"dtype":"F32","dtype":"F16","shape":[],"data_offsets":[0,4]}}', 4),
      /holds "dtype" twice/,
    ],
    ['a tensor that is no object', () => fileOf({ a: 3 }, 0), /tensor "a" is 3, not an object/],
    ['an unknown field', () => fileOf({ a: { ...a, stride: 1 } }, 24), /tensor "a" has an unknown key "stride"/],
    ['an unknown dtype', () => fileOf({ a: { ...a, dtype: 'Q4_0' } }, 24), /tensor "a" has dtype "Q4_0"; known are/],
    ['a dtype of Object.prototype', () => fileOf({ a: { ...a, dtype: 'toString' } }, 24), /has dtype "toString"/],
    ['a missing shape', () => fileOf({ a: { ...a, shape: undefined } }, 24), /tensor "a" has shape undefined/],
    ['a negative extent', () => fileOf({ a: { ...a, shape: [-2, -3] } }, 24), /tensor "a" has shape \[-2,-3\]/],
    ['a fractional extent', () => fileOf({ a: { ...a, shape: [1.5, 4] } }, 24), /tensor "a" has shape \[1.5,4\]/],
    [
      'one offset',
      () => fileOf({ a: { ...a, data_offsets: [0] } }, 24),
      /data_offsets \[0\]; they must be \[begin, end\]/,
    ],
    ['reversed offsets', () => fileOf({ a: { ...a, data_offsets: [24, 0] } }, 24), /data_offsets \[24,0\]/],
    [
      'a shape that does not fill its bytes',
      () => fileOf({ a: { ...a, shape: [2, 2] } }, 24),
      /tensor "a" of F32 \[2,2\] takes 16 bytes, and its data_offsets span 24/,
    ],
    [
      'a dtype of another size',
      () => fileOf({ a: { ...a, dtype: 'F16' } }, 24),
      /takes 12 bytes, and its data_offsets span 24/,
    ],
    [
      'a shape whose product overflows',
      () => fileOf({ a: { ...a, shape: [2 ** 40, 2 ** 40] } }, 24),
      /data_offsets span 24/,
    ],
    [
      'overlapping tensors',
      () => fileOf({ a, b: { ...b, data_offsets: [20, 28] } }, 28),
      /tensor "b" begins at 20 and overlaps tensor "a", which ends at 24/,
    ],
    [
      'a hole',
      () => fileOf({ a, b: { ...b, data_offsets: [28, 36] } }, 36),
      /a hole: tensor "b" begins at 28, and tensor "a" ends at 24/,
    ],
    [
      'a hole at the start',
      () => fileOf({ b: { ...b, data_offsets: [8, 16] } }, 16),
      /a hole: tensor "b" begins at 8, and the start of the data ends at 0/,
    ],
    [
      'data cut short',
      () => fileOf({ a, b }, 31),
      /truncated: tensor "b" ends at byte \d+, and the file has \d+ bytes/,
    ],
    ['data left over', () => fileOf({ a, b }, 33), /1 bytes too many/],
    ['metadata that is not strings', () => fileOf({ __metadata__: { step: 3 } }, 0), /__metadata__ is \{"step":3\}/],
  ])('refuses %s', async (_, make, message) => {
    const path = make()
    const error = await readSafetensorsFile(path).then(
      () => 'accepted',
      (caught: unknown) => caught,
    )
    expect(error).toBeInstanceOf(MorError)
    expect(error).toMatchObject({ code: 'CHECKPOINT_INVALID', message: expect.stringMatching(message) })
    expect((error as MorError).message).toContain(path)
  })

  it('reports a file that cannot be opened as IO_ERROR', async () => {
    await expect(readSafetensorsFile(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'IO_ERROR' })
  })
})

describe('building', () => {
  const tensors = [
    { name: 'x', dtype: 'F32', shape: [3, 5] },
    { name: 'y "quoted" ü', dtype: 'BF16', shape: [7] },
    { name: 'z', dtype: 'F32', shape: [] },
  ] as const

  it('makes a prefix that reads back, data aligned to 64 bytes and tensors in order', async () => {
    const header = buildSafetensorsHeader(
      tensors.map((tensor) => ({ ...tensor, shape: [...tensor.shape] })),
      { k: 'v' },
    )
    expect(header.length % 64).toBe(0)
    const file = await readSafetensorsFile(fileOfBytes(Buffer.concat([header, Buffer.alloc(60 + 14 + 4)])))
    expect(file.metadata).toEqual({ format: 'pt', k: 'v' })
    expect(file.tensors.map(({ name, offset }) => [name, offset - header.length])).toEqual([
      ['x', 0],
      ['y "quoted" ü', 60],
      ['z', 74],
    ])
  })
})
