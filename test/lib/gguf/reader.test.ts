// Headers of GGUF files that contradict themselves are refused: such a file would be another model than the one that was written.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { readGguf } from '../../../lib/gguf/reader.js'
import { float32, ggufHeader, string, type TypedValue, uint32 } from '../../../lib/gguf/values.js'

const folder = mkdtempSync(join(tmpdir(), 'mor-gguf-reader-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const path = join(folder, 'a.gguf')
const tensor = (name: string, shape = [4, 4]) => ({ name, dtype: 'F32' as const, shape })

interface Changes {
  metadata?: [string, TypedValue][]
  tensors?: ReturnType<typeof tensor>[]
  /** What the directory says instead of the offset of the second tensor. */
  second?: number
}

function write({ metadata = [], tensors = [tensor('a'), tensor('b')], second }: Changes): void {
  const header = ggufHeader([['general.architecture', string('llama')], ...metadata], tensors)
  // An offset is the last of an entry, and the second entry is the last one.
  const entry = header.lastIndexOf('b')
  if (second !== undefined) header.writeBigUInt64LE(BigInt(second), entry + 1 + 4 + 2 * 8 + 4)
  writeFileSync(path, Buffer.concat([header, Buffer.alloc(256)]))
}

const refused = (message: RegExp) =>
  expect(readGguf(path)).rejects.toMatchObject({ code: 'CHECKPOINT_INVALID', message: expect.stringMatching(message) })

describe('a GGUF file', () => {
  it('may have its tensors in any order, with gaps between them', async () => {
    write({ second: 128 })
    const { tensors } = await readGguf(path)
    expect(tensors.map(({ offset }) => offset - tensors[0]!.offset)).toEqual([0, 128])
  })

  it('may have empty tensors anywhere', async () => {
    write({ tensors: [tensor('a'), tensor('b', [0, 4])], second: 32 })
    expect((await readGguf(path)).tensors.map(({ bytes }) => bytes)).toEqual([64, 0])
  })

  it.each([0, 32, 63])('has no tensor in another one, at %d', async (second) => {
    write({ second })
    await refused(/a\.gguf is a GGUF file whose tensors "a" and "b" overlap: .* 64 bytes/)
  })

  it('has no key twice', async () => {
    write({ metadata: [['general.architecture', string('qwen2')]] })
    await refused(/with the key "general.architecture" twice/)
  })

  it.each([0, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('has no alignment of %d', async (alignment) => {
    write({ metadata: [['general.alignment', float32(alignment)]] })
    await refused(/whose general.alignment is/)
  })

  it('may have another alignment', async () => {
    write({ metadata: [['general.alignment', uint32(16)]] })
    expect((await readGguf(path)).tensors[0]!.offset % 16).toBe(0)
  })
})
