// Reads the values of a safetensors file, for tests.
import { readFileSync } from 'node:fs'
import { parseSafetensorsHeader } from '../../lib/safetensors.js'

export type Values = Float64Array | Float32Array | Int32Array | Uint8Array

/** A function that gives the values of the tensor of a name; bfloat16 and float16 become float32. */
export function readTensors(path: string): (name: string) => Values {
  const file = readFileSync(path)
  const length = Number(file.readBigUInt64LE())
  const { tensors } = parseSafetensorsHeader(file.subarray(8, 8 + length), file.length, path)
  return (name) => {
    const entry = tensors.find((tensor) => tensor.name === name)
    if (entry === undefined) throw new Error(`${path} has no tensor ${name}`)
    // A copy, which begins where every element type may begin.
    const bytes = Uint8Array.from(file.subarray(entry.offset, entry.offset + entry.bytes)).buffer
    return valuesOf(bytes, entry.dtype)
  }
}

export function valuesOf(bytes: ArrayBuffer, dtype: string): Values {
  switch (dtype) {
    case 'F64':
      return new Float64Array(bytes)
    case 'F32':
      return new Float32Array(bytes)
    case 'I32':
      return new Int32Array(bytes)
    case 'U8':
      return new Uint8Array(bytes)
    case 'BF16':
      return new Float32Array(Uint32Array.from(new Uint16Array(bytes), (half) => half << 16).buffer)
    case 'F16':
      return Float32Array.from(new Uint16Array(bytes), halfToNumber)
    default:
      throw new Error(`no values of ${dtype}`)
  }
}

/** Of IEEE binary16. */
function halfToNumber(half: number): number {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >> 10) & 0x1f
  const fraction = half & 0x3ff
  if (exponent === 0) return sign * fraction * 2 ** -24
  return exponent === 31
    ? fraction
      ? Number.NaN
      : sign * Infinity
    : sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}
