// Reads the header of a GGUF file: its metadata, and where each tensor lies.
import { type FileHandle, open } from 'node:fs/promises'
import { show } from '../check.js'
import { MorError, toMorError } from '../errors.js'
import type { SafetensorsFloat } from '../native/files.js'
import { tensorBytes } from '../safetensors.js'
import { Cursor, EndOfBytes, type GgufValue } from './cursor.js'
import { defaultAlignment, magic, tensorTypeOf } from './format.js'

export interface GgufTensor {
  name: string
  dtype: SafetensorsFloat
  /** Rows first, as in safetensors files. */
  shape: number[]
  /** Absolute in the file. */
  offset: number
  bytes: number
}

export interface GgufFile {
  path: string
  metadata: ReadonlyMap<string, GgufValue>
  tensors: GgufTensor[]
}

/** Most headers fit; those of large vocabularies are read again with more. */
const FIRST_BYTES = 2 ** 20
const MOST_BYTES = 2 ** 28

/** Whether the file at `path` begins as a GGUF file does; false for a folder, and where there is none. */
export async function isGguf(path: string): Promise<boolean> {
  const file = await open(path, 'r').catch(() => null)
  try {
    const head = Buffer.alloc(4)
    await file?.read(head, 0, 4, 0)
    return head.toString('latin1') === magic
  } catch {
    return false
  } finally {
    await file?.close()
  }
}

/**
 * Reads and checks the header of one file.
 * @throws {MorError} CHECKPOINT_INVALID for what is no such header, for tensors beyond the end of the file or in one another, and
 * for quantised ones; IO_ERROR
 */
export async function readGguf(path: string): Promise<GgufFile> {
  let file: FileHandle | undefined
  try {
    file = await open(path, 'r')
    const { size } = await file.stat()
    for (let length = FIRST_BYTES; ; length *= 8) {
      const bytes = Buffer.alloc(Math.min(length, size))
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0)
      try {
        return parseGguf(bytes.subarray(0, bytesRead), size, path)
      } catch (error) {
        if (!(error instanceof EndOfBytes)) throw error
        if (length >= size) fail(path, `that is truncated: its header goes on after its ${size} bytes`)
        if (length >= MOST_BYTES) fail(path, `whose header takes more than ${MOST_BYTES} bytes`)
      }
    }
  } catch (error) {
    throw error instanceof TypeError ? invalid(path, `with ${error.message}`) : toMorError(error, path)
  } finally {
    await file?.close()
  }
}

/** @param bytes the start of the file. Throws EndOfBytes where the header is longer. */
function parseGguf(bytes: Buffer, size: number, path: string): GgufFile {
  const cursor = new Cursor(bytes)
  cursor.uint32()
  const found = cursor.uint32()
  if (found !== 2 && found !== 3) fail(path, `of version ${found}, and 2 and 3 are read: make it again`)
  const tensorCount = cursor.count()
  const valueCount = cursor.count()
  const metadata = new Map<string, GgufValue>()
  for (let i = 0; i < valueCount; i++) {
    const key = cursor.string()
    if (metadata.has(key)) fail(path, `with the key ${show(key)} twice: make it again`)
    metadata.set(key, cursor.value(cursor.uint32()))
  }
  const alignment = metadata.get('general.alignment') ?? defaultAlignment
  if (typeof alignment !== 'number' || !Number.isSafeInteger(alignment) || alignment < 1)
    fail(path, `whose general.alignment is ${show(alignment)}; it must be an integer from 1`)
  const infos = []
  for (let i = 0; i < tensorCount; i++) infos.push(tensorInfo(cursor))
  const start = Math.ceil(cursor.position / alignment) * alignment
  const names = new Set<string>()
  const tensors = infos.map(({ name, shape, type, offset }) => {
    const read = tensorTypeOf(type)
    if ('unread' in read) failQuantised(path, name, read.unread)
    if (names.has(name)) fail(path, `with two tensors "${name}"`)
    names.add(name)
    const tensor = { name, shape, dtype: read.dtype, offset: start + offset, bytes: tensorBytes(read.dtype, shape) }
    if (!(tensor.offset + tensor.bytes <= size)) {
      fail(path, `that is truncated: "${name}" ends at byte ${tensor.offset + tensor.bytes}, and the file has ${size}`)
    }
    return tensor
  })
  checkApart(tensors, path)
  return { path, metadata, tensors }
}

/** Tensors may lie in any order, with any gaps, but each has bytes of its own. */
function checkApart(tensors: readonly GgufTensor[], path: string): void {
  const placed = tensors.filter(({ bytes }) => bytes > 0).sort((a, b) => a.offset - b.offset)
  for (const [i, { name, offset }] of placed.entries()) {
    const before = placed[i - 1]
    if (before === undefined || before.offset + before.bytes <= offset) continue
    const place = `"${before.name}" takes ${before.bytes} bytes from byte ${before.offset}, and "${name}" begins at ${offset}`
    fail(path, `whose tensors "${before.name}" and "${name}" overlap: ${place}. Make it again`)
  }
}

function tensorInfo(cursor: Cursor): { name: string; shape: number[]; type: number; offset: number } {
  const name = cursor.string()
  const dimensions = cursor.uint32()
  if (dimensions > 8) throw new TypeError(`a tensor "${name}" of ${dimensions} dimensions`)
  const extents = Array.from({ length: dimensions }, () => cursor.count())
  return { name, shape: extents.reverse(), type: cursor.uint32(), offset: cursor.count() }
}

function failQuantised(path: string, name: string, type: string): never {
  fail(
    path,
    `whose tensor "${name}" is ${type}: only F32, F16 and BF16 are read. Give the model as BF16 or F16 (convert_hf_to_gguf.py ` +
      'with --outtype bf16), or the Hugging Face folder that it was made from',
  )
}

function invalid(path: string, message: string): MorError {
  return new MorError('CHECKPOINT_INVALID', `${path} is a GGUF file ${message}`)
}

/** `message` goes on from "is a GGUF file". */
export function fail(path: string, message: string): never {
  throw invalid(path, message)
}
