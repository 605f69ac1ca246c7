// Reads the values of a GGUF header out of bytes, one after another.
import { valueType } from './format.js'

/** More bytes are needed than the buffer holds. */
export class EndOfBytes extends Error {}

/** What a value of the metadata may be; 64-bit integers that a number cannot hold exactly are a bigint. */
export type GgufValue = number | bigint | boolean | string | GgufValue[]

/** Arrays in arrays, of which no file has more than one in another. */
const DEEPEST = 4

export class Cursor {
  position = 0

  constructor(private readonly bytes: Buffer) {}

  uint32(): number {
    return this.bytes.readUInt32LE(this.take(4))
  }

  /** Of counts and extents, which are small in every file; Infinity for one that is not. */
  count(): number {
    const value = this.uint64()
    return typeof value === 'number' ? value : Number.POSITIVE_INFINITY
  }

  string(): string {
    const length = this.count()
    const start = this.take(length)
    return this.bytes.toString('utf8', start, start + length)
  }

  value(type: number, depth = 0): GgufValue {
    switch (type) {
      case valueType.uint8:
        return this.bytes.readUInt8(this.take(1))
      case valueType.int8:
        return this.bytes.readInt8(this.take(1))
      case valueType.uint16:
        return this.bytes.readUInt16LE(this.take(2))
      case valueType.int16:
        return this.bytes.readInt16LE(this.take(2))
      case valueType.uint32:
        return this.uint32()
      case valueType.int32:
        return this.bytes.readInt32LE(this.take(4))
      case valueType.float32:
        return this.bytes.readFloatLE(this.take(4))
      case valueType.bool:
        return this.bytes.readUInt8(this.take(1)) !== 0
      case valueType.string:
        return this.string()
      case valueType.array:
        return this.array(depth)
      case valueType.uint64:
        return this.uint64()
      case valueType.int64:
        return exact(this.bytes.readBigInt64LE(this.take(8)))
      case valueType.float64:
        return this.bytes.readDoubleLE(this.take(8))
      default:
        throw new TypeError(`a value of the unknown type ${type}`)
    }
  }

  private array(depth: number): GgufValue[] {
    if (depth === DEEPEST) throw new TypeError('arrays in arrays, more than a file may have')
    const type = this.uint32()
    const length = this.count()
    // Every element takes a byte at least.
    if (length > this.bytes.length - this.position) throw new EndOfBytes()
    const values: GgufValue[] = []
    for (let i = 0; i < length; i++) values.push(this.value(type, depth + 1))
    return values
  }

  private uint64(): number | bigint {
    return exact(this.bytes.readBigUInt64LE(this.take(8)))
  }

  private take(length: number): number {
    const start = this.position
    if (length > this.bytes.length - start) throw new EndOfBytes()
    this.position += length
    return start
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}
