// The bytes of values in a GGUF file, and the header that they make up.

import type { SafetensorsFloat } from '../native/files.js'
import { tensorBytes } from '../safetensors.js'
import { defaultAlignment, magic, tensorTypes, valueType, version } from './format.js'

/** A value of the metadata with its type. */
export type TypedValue = Buffer

export const uint32 = (value: number): TypedValue => typed(valueType.uint32, bytesOf32(value))
export const float32 = (value: number): TypedValue => typed(valueType.float32, bytesOfFloat(value))
export const bool = (value: boolean): TypedValue => typed(valueType.bool, Buffer.of(value ? 1 : 0))
export const string = (text: string): TypedValue => typed(valueType.string, bytesOfText(text))
export const strings = (texts: readonly string[]) => array(valueType.string, texts.map(bytesOfText))
export const int32s = (values: readonly number[]) => array(valueType.int32, values.map(bytesOf32))
export const float32s = (values: readonly number[]) => array(valueType.float32, values.map(bytesOfFloat))

export interface WrittenTensor {
  name: string
  dtype: SafetensorsFloat
  /** Rows first. */
  shape: readonly number[]
}

/** Zero bytes that follow `bytes` others. */
export function paddingOf(bytes: number): number {
  return Math.ceil(bytes / defaultAlignment) * defaultAlignment - bytes
}

/** What comes before the data; each tensor begins where the one before it and its padding end. */
export function ggufHeader(metadata: readonly [string, TypedValue][], tensors: readonly WrittenTensor[]): Buffer {
  let offset = 0
  const directory = tensors.flatMap(({ name, dtype, shape }) => {
    // The contiguous extent comes first.
    const extents = [...shape].reverse().map(bytesOf64)
    const entry = [
      bytesOfText(name),
      bytesOf32(shape.length),
      ...extents,
      bytesOf32(tensorTypes[dtype]),
      bytesOf64(offset),
    ]
    const bytes = tensorBytes(dtype, shape)
    offset += bytes + paddingOf(bytes)
    return entry
  })
  const counts = [bytesOf32(version), bytesOf64(tensors.length), bytesOf64(metadata.length)]
  const pairs = metadata.flatMap(([key, value]) => [bytesOfText(key), value])
  const header = Buffer.concat([Buffer.from(magic), ...counts, ...pairs, ...directory])
  return Buffer.concat([header, Buffer.alloc(paddingOf(header.length))])
}

const typed = (type: number, value: Buffer) => Buffer.concat([bytesOf32(type), value])
const array = (type: number, items: readonly Buffer[]) =>
  typed(valueType.array, Buffer.concat([bytesOf32(type), bytesOf64(items.length), ...items]))

function bytesOf32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value | 0)
  return bytes
}

function bytesOf64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function bytesOfFloat(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return bytes
}

function bytesOfText(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([bytesOf64(bytes.length), bytes])
}
