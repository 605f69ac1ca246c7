// The safetensors file format: reads and checks headers, builds headers. Never touches tensor data.
import { type FileHandle, open } from 'node:fs/promises'
import { isObject, type JsonObject, show } from './check.js'
import { MorError, toMorError } from './errors.js'
import { describeFileFormat } from './file_format.js'
import { repeatedKey } from './json_keys.js'

const bytesPerElement = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const

export type SafetensorsDType = keyof typeof bytesPerElement

export interface TensorInfo {
  name: string
  dtype: SafetensorsDType
  shape: number[]
}

/** Where a tensor lies: `offset` is absolute in the file. */
export interface TensorEntry extends TensorInfo {
  offset: number
  bytes: number
  /** Of a q or k projection in a file of llama.cpp; see `NativeReadFile`. */
  interleavedHeads?: number
}

export interface SafetensorsFile {
  path: string
  /** In file order. */
  tensors: TensorEntry[]
  metadata: Record<string, string>
}

/** The largest header the format allows, in bytes. */
const maxHeaderBytes = 100_000_000
const lengthBytes = 8
/** Data starts at a multiple of a cache line, so that a mapped file can be read with aligned vector loads. */
const dataAlignment = 64

/**
 * Reads and checks the header of one file.
 * @throws {MorError} CHECKPOINT_INVALID for any way in which header and file disagree; IO_ERROR if it cannot be read.
 */
export async function readSafetensorsFile(path: string): Promise<SafetensorsFile> {
  let file: FileHandle | undefined
  try {
    file = await open(path, 'r')
    const { size } = await file.stat()
    if (size < lengthBytes)
      fail(path, `truncated: it has ${size} bytes, and the header length alone takes ${lengthBytes}`)
    const length = Number((await readExactly(file, path, 0, lengthBytes)).readBigUInt64LE())
    if (length > maxHeaderBytes) {
      const format = await describeFileFormat(path)
      if (format !== null) throw new MorError('CHECKPOINT_INVALID', `${path} ${format}`)
      fail(path, `the header claims ${length} bytes; the format allows ${maxHeaderBytes}`)
    }
    if (length > size - lengthBytes) {
      fail(
        path,
        `truncated: the header claims ${length} bytes, and the file holds ${size - lengthBytes} after its length`,
      )
    }
    return parseSafetensorsHeader(await readExactly(file, path, lengthBytes, length), size, path)
  } catch (error) {
    throw toMorError(error, path)
  } finally {
    await file?.close()
  }
}

/**
 * Checks a header against the size of its file: every tensor's bytes follow from its dtype and shape, and together the
 * tensors cover the data without gap or overlap.
 * @param header the JSON bytes without their length prefix.
 */
export function parseSafetensorsHeader(header: Uint8Array, fileSize: number, path: string): SafetensorsFile {
  const object = parseObject(header, path)
  const dataStart = lengthBytes + header.length
  const tensors: TensorEntry[] = []
  let metadata: Record<string, string> = {}
  for (const [name, value] of Object.entries(object)) {
    if (name === '__metadata__') metadata = parseMetadata(value, path)
    else tensors.push(parseEntry(name, value, dataStart, path))
  }
  tensors.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)
  checkCoverage(tensors, dataStart, fileSize, path)
  return { path, tensors, metadata }
}

/**
 * The bytes that come before the data: length, JSON and padding. The data is the tensors in the order given, with
 * nothing in between.
 */
export function buildSafetensorsHeader(
  tensors: readonly TensorInfo[],
  metadata: Record<string, string> = {},
): Uint8Array {
  const object: JsonObject = { __metadata__: { format: 'pt', ...metadata } }
  let offset = 0
  for (const { name, dtype, shape } of tensors) {
    const end = offset + tensorBytes(dtype, shape)
    object[name] = { dtype, shape, data_offsets: [offset, end] }
    offset = end
  }
  const json = Buffer.from(JSON.stringify(object))
  const total = Math.ceil((lengthBytes + json.length) / dataAlignment) * dataAlignment
  const header = Buffer.alloc(total, ' ')
  header.writeBigUInt64LE(BigInt(total - lengthBytes))
  json.copy(header, lengthBytes)
  return header
}

export function tensorBytes(dtype: SafetensorsDType, shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, bytesPerElement[dtype])
}

function parseObject(header: Uint8Array, path: string): JsonObject {
  let object: unknown
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header)
    object = JSON.parse(text)
  } catch (cause) {
    throw new MorError('CHECKPOINT_INVALID', `${path}: the header is not JSON: ${(cause as Error).message}`, { cause })
  }
  if (!isObject(object)) fail(path, `the header is ${show(object)}, not an object`)
  const repeated = repeatedKey(text)
  if (repeated !== null) fail(path, `the header holds "${repeated}" twice`)
  return object
}

function parseMetadata(value: unknown, path: string): Record<string, string> {
  if (!isObject(value) || !Object.values(value).every((item) => typeof item === 'string')) {
    fail(path, `__metadata__ is ${show(value)}; it must map names to strings`)
  }
  return value as Record<string, string>
}

function parseEntry(name: string, value: unknown, dataStart: number, path: string): TensorEntry {
  if (!isObject(value)) fail(path, `tensor "${name}" is ${show(value)}, not an object`)
  const { dtype, shape, data_offsets: offsets, ...rest } = value
  const extra = Object.keys(rest)[0]
  if (extra !== undefined) fail(path, `tensor "${name}" has an unknown key "${extra}"`)
  if (typeof dtype !== 'string' || !Object.hasOwn(bytesPerElement, dtype)) {
    fail(path, `tensor "${name}" has dtype ${show(dtype)}; known are ${Object.keys(bytesPerElement).join(', ')}`)
  }
  if (!isCountArray(shape)) fail(path, `tensor "${name}" has shape ${show(shape)}; it must be an array of counts`)
  if (!isCountArray(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
    fail(path, `tensor "${name}" has data_offsets ${show(offsets)}; they must be [begin, end] with begin <= end`)
  }
  const [begin, end] = offsets as [number, number]
  const bytes = tensorBytes(dtype as SafetensorsDType, shape)
  if (end - begin !== bytes) {
    fail(
      path,
      `tensor "${name}" of ${dtype} ${show(shape)} takes ${bytes} bytes, and its data_offsets span ${end - begin}`,
    )
  }
  return { name, dtype: dtype as SafetensorsDType, shape, offset: dataStart + begin, bytes }
}

/** `tensors` in the order of their offsets. */
function checkCoverage(tensors: TensorEntry[], dataStart: number, fileSize: number, path: string): void {
  let end = dataStart
  let previous = 'the start of the data'
  for (const { name, offset, bytes } of tensors) {
    const [found, expected] = [offset - dataStart, end - dataStart]
    if (found < expected)
      fail(path, `tensor "${name}" begins at ${found} and overlaps ${previous}, which ends at ${expected}`)
    if (found > expected) fail(path, `a hole: tensor "${name}" begins at ${found}, and ${previous} ends at ${expected}`)
    end = offset + bytes
    previous = `tensor "${name}"`
  }
  if (end > fileSize) fail(path, `truncated: ${previous} ends at byte ${end}, and the file has ${fileSize} bytes`)
  if (end < fileSize) fail(path, `${fileSize - end} bytes too many: ${previous} ends at byte ${end} of ${fileSize}`)
}

async function readExactly(file: FileHandle, path: string, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  const { bytesRead } = await file.read(buffer, 0, length, position)
  if (bytesRead !== length) fail(path, `truncated while it was read: ${bytesRead} of ${length} bytes at ${position}`)
  return buffer
}

function isCountArray(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0)
}

function fail(path: string, message: string): never {
  throw new MorError('CHECKPOINT_INVALID', `${path}: ${message}`)
}
