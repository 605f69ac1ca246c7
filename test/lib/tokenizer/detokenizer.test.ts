// Streaming detokenisation: the pieces make up the whole text, and none ends inside a character.
import { describe, expect, it } from 'vitest'
import { WindowDetokenizer } from '../../../lib/tokenizer/detokenizer.js'
import { type Detokenizer, Tokenizer } from '../../../lib/tokenizer.js'
import { sharedData } from '../shared_data.js'

const TEXT = ' Héllo  “wörld” 😀😀 漢字\n\n  the end — naïve'

function stream(detokenizer: Detokenizer, ids: ArrayLike<number>): string[] {
  return [...Array.from(ids, (id) => detokenizer.push(id)), detokenizer.flush()]
}

/** A decoder of byte ids that, like sentencepiece ones, drops the first space of a sequence. */
function strippingDecode(ids: number[]): string {
  return new TextDecoder().decode(Uint8Array.from(ids)).replace(/^ /, '')
}

const files = [
  'tokenizers/gpt2/tokenizer.json',
  'tokenizers/books-bpe/books-bpe-1024.json',
  'checkpoints/stories260K/tokenizer.json',
]
const loaded = files.map((name) => ({ name, path: sharedData(name) }))

describe.each([
  { name: 'byte-level', load: async () => Tokenizer.byteLevel() },
  ...loaded.flatMap(({ name, path }) => (path ? [{ name, load: () => Tokenizer.load(path) }] : [])),
])('streaming with $name', ({ load }) => {
  it('pieces add up to the text and are whole characters', async () => {
    const tokenizer = await load()
    const ids = tokenizer.encode(TEXT)
    const pieces = stream(tokenizer.detokenizer(), ids)
    expect(pieces.join('')).toBe(tokenizer.decode(ids))
    expect(pieces.join('')).not.toContain('\ufffd')
    for (const piece of pieces) expect(Buffer.from(piece).toString()).toBe(piece)
  })

  it('leaves out special tokens anywhere, also inside a character', async () => {
    const tokenizer = await load()
    const ids = [...tokenizer.encode(TEXT, { addSpecialTokens: false })].flatMap((id) => [id, tokenizer.eosTokenId!])
    expect(stream(tokenizer.detokenizer(), ids).join('')).toBe(tokenizer.decode(ids))
  })

  it('replaces what stays unfinished when flushed, and starts anew', async () => {
    const tokenizer = await load()
    const detokenizer = tokenizer.detokenizer()
    const ids = tokenizer.encode('a 😀', { addSpecialTokens: false })
    const cut = stream(detokenizer, ids.slice(0, -1)).join('')
    expect(cut).toBe(tokenizer.decode(ids.slice(0, -1)))
    expect(stream(detokenizer, ids).join('')).toBe(tokenizer.decode(ids))
  })
})

describe('the window detokenizer', () => {
  it('keeps leading spaces that belong to the middle of a text', () => {
    const ids = new TextEncoder().encode('  a b   c')
    expect(stream(new WindowDetokenizer(strippingDecode), ids).join('')).toBe(strippingDecode([...ids]))
  })

  it('agrees with decoding at once on any bytes', () => {
    let state = 1
    const random = (n: number) => {
      state = Math.imul(state, 1664525) + 1013904223
      return (state >>> 8) % n
    }
    const interesting = [0x20, 0x61, 0x80, 0xbf, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xff]
    const decode = (ids: number[]) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(ids))
    for (let trial = 0; trial < 300; trial++) {
      const ids = Array.from({ length: random(120) }, () => interesting[random(interesting.length)]!)
      expect(stream(new WindowDetokenizer(decode), ids).join('')).toBe(decode(ids))
      expect(stream(Tokenizer.byteLevel().detokenizer(), ids).join('')).toBe(decode(ids))
    }
  })

  it('takes time in proportion to the tokens, also for bytes that never make a character', () => {
    let decoded = 0
    const detokenizer = new WindowDetokenizer((ids) => {
      decoded += ids.length
      return new TextDecoder().decode(Uint8Array.from(ids))
    })
    const ids = [...Array(2000).fill(0x80), ...new TextEncoder().encode('€ and 😀')]
    expect(stream(detokenizer, ids).join('')).toBe(new TextDecoder().decode(Uint8Array.from(ids)))
    expect(decoded).toBeLessThan(40 * ids.length)
  })

  it('returns every character as soon as it is whole', () => {
    const detokenizer = new WindowDetokenizer((ids) => new TextDecoder().decode(Uint8Array.from(ids)))
    expect([...new TextEncoder().encode('a€b')].map((id) => detokenizer.push(id))).toEqual(['a', '', '', '€', 'b'])
  })
})
