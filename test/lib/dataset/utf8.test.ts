// UTF-8 in parts: the same text however it is cut, and the place of the first byte that is wrong.
import { expect, it } from 'vitest'
import { Utf8Stream } from '../../../lib/dataset/utf8.js'

/** The text of the bytes in parts of `size`, or the place of the wrong byte. */
function decode(bytes: Buffer, size: number): string | number {
  try {
    const stream = new Utf8Stream((byte) => {
      throw byte
    })
    let text = ''
    for (let at = 0; at < bytes.length; at += size) text += stream.push(bytes.subarray(at, at + size))
    stream.end()
    return text
  } catch (error) {
    return error as number
  }
}

const text = 'aé€😀\ufffd\ufeffz\ufffd'
const sizes = [1, 2, 3, 4, 5, 7, 100]

it('the text is the same in parts of any size, less a byte order mark before it', () => {
  for (const size of sizes) expect(decode(Buffer.from(`\ufeff${text}`), size)).toBe(text)
  expect(decode(Buffer.alloc(0), 1)).toBe('')
})

it.each<[string, number[]]>([
  ['a byte that begins no character', [0xff]],
  ['a byte that goes on with none', [0x80]],
  ['a character that another one cuts short', [0xf0, 0x9f, 0x98, 0x41]],
  ['half of a pair of surrogates', [0xed, 0xa0, 0x80]],
  ['an overlong character', [0xc0, 0xaf]],
  ['a character that the end cuts short', [0xe2, 0x82]],
])('the place of %s is that of its first byte', (_, wrong) => {
  for (const before of ['', text, '\ufeffab', text.repeat(50)]) {
    const good = Buffer.from(before)
    for (const after of ['', ' and more \ufffd']) {
      const bytes = Buffer.concat([good, Buffer.from(wrong), Buffer.from(after)])
      for (const size of sizes) expect(decode(bytes, size), `${before} in parts of ${size}`).toBe(good.length)
    }
  }
})
