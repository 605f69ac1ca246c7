// Decodes UTF-8 that comes in parts, and finds the byte that is wrong.
import { TextDecoder } from 'node:util'

/** Most bytes of a character. */
const LONGEST = 4
const REPLACEMENT = '\uFFFD'
const replacementBytes = Buffer.from(REPLACEMENT)

export class Utf8Stream {
  readonly #decoder = new TextDecoder('utf-8', { fatal: true })
  readonly #fail: (byte: number) => never
  /** Bytes so far, and the last of them: the character that they end in begins there. */
  #bytes = 0
  #last = Buffer.alloc(0)

  /** @param fail throws; it is given the place of the first byte, from 0, of what is no character */
  constructor(fail: (byte: number) => never) {
    this.#fail = fail
  }

  /** The characters that end in `part`; a byte order mark before the first one is left out. */
  push(part: Buffer): string {
    const text = this.#decode(part)
    this.#bytes += part.length
    this.#last = Buffer.from(
      part.length < LONGEST ? Buffer.concat([this.#last, part]).subarray(-LONGEST) : part.subarray(-LONGEST),
    )
    return text
  }

  /** Fails where the last character is unfinished. */
  end(): void {
    this.#decode(null)
  }

  #decode(part: Buffer | null): string {
    try {
      return part === null ? this.#decoder.decode() : this.#decoder.decode(part, { stream: true })
    } catch {
      let start = 0
      while (start < this.#last.length && (this.#last[start]! & 0xc0) === 0x80) start++
      const rest = this.#last.subarray(start)
      return this.#fail(this.#bytes - rest.length + firstWrong(part === null ? rest : Buffer.concat([rest, part])))
    }
  }
}

/** @param bytes begin with a character, and have a wrong byte or end in an unfinished character */
function firstWrong(bytes: Buffer): number {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
  for (let at = text.indexOf(REPLACEMENT); ; at = text.indexOf(REPLACEMENT, at + 1)) {
    const byte = Buffer.byteLength(text.slice(0, at))
    // The text may hold that character itself.
    if (!bytes.subarray(byte, byte + replacementBytes.length).equals(replacementBytes)) return byte
  }
}
