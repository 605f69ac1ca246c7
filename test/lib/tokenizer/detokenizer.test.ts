// Streaming detokenisation: the pieces make up the whole text, and none ends inside a character.
import { describe, expect, it } from 'vitest'
import { WindowDetokenizer } from '../../../lib/tokenizer/detokenizer.js'
import { type Detokenizer, Tokenizer } from '../../../lib/tokenizer.js'
import { sharedData } from '../shared_data.js'
import { familyNames, loadFamily } from './families.js'

const TEXT = ' Héllo  “wörld” 😀😀 漢字\n\n  the end — naïve'

function stream(detokenizer: Detokenizer, ids: ArrayLike<number>): string[] {
  return [...Array.from(ids, (id) => detokenizer.push(id)), detokenizer.flush()]
}

/** A detokenizer of ids that all have text. */
function windowOf(decode: (ids: number[]) => string, prompt?: ArrayLike<number>): Detokenizer {
  return new WindowDetokenizer({ decode, leftOut: () => null }, prompt)
}

/** A decoder of byte ids that, like sentencepiece ones, drops the first space of a sequence. */
function strippingDecode(ids: number[]): string {
  return new TextDecoder().decode(Uint8Array.from(ids)).replace(/^ /, '')
}

/** The text of prompt and stream together, less that of the prompt; its last character counts if it is completed later. */
function continuation(decode: (ids: number[]) => string, prompt: number[], ids: number[]): string {
  const before = decode(prompt)
  const all = decode([...prompt, ...ids])
  return all.startsWith(before) ? all.slice(before.length) : all.slice(before.slice(0, -1).length)
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

describe.each([
  { name: 'byte-level', load: async () => Tokenizer.byteLevel() },
  ...familyNames.map((family) => ({ name: `the family ${family}`, load: () => loadFamily(family) })),
  ...loaded.flatMap(({ name, path }) => (path ? [{ name, load: () => Tokenizer.load(path) }] : [])),
])('going on from a prompt with $name', ({ load }) => {
  it('is the text of prompt and stream together, less the prompt, wherever the prompt ends', async () => {
    const tokenizer = await load()
    const ids = [...tokenizer.encode('Once upon a time, there was  a girl. é😀 \ufffd!')]
    const decode = (some: number[]) => tokenizer.decode(some)
    for (let end = 0; end <= ids.length; end++) {
      const [prompt, rest] = [ids.slice(0, end), ids.slice(end)]
      const pieces = stream(tokenizer.detokenizer(prompt), rest)
      expect(pieces.join(''), `after ${end} tokens`).toBe(continuation(decode, prompt, rest))
      for (const piece of pieces) expect(Buffer.from(piece).toString()).toBe(piece)
    }
  })

  it('peeks at what each token would add, and changes nothing by it', async () => {
    const tokenizer = await load()
    const ids = [...tokenizer.encode('time, there')]
    const detokenizer = tokenizer.detokenizer(ids.slice(0, 3))
    for (const id of ids.slice(3)) {
      const peeked = detokenizer.peek(id)
      expect(detokenizer.peek(id)).toBe(peeked)
      expect(detokenizer.push(id)).toBe(peeked)
    }
  })
})

describe('the first token after a prompt', () => {
  it.each(['llama', 'metaspace'] as const)('of the family %s keeps its space', async (family) => {
    const tokenizer = await loadFamily(family)
    const prompt = tokenizer.encode('Once upon a time,')
    const ids = tokenizer.encode(' there was', { addSpecialTokens: false }).slice(-2)
    expect(stream(tokenizer.detokenizer(prompt), ids)).toEqual([' there', ' was', ''])
    expect(stream(tokenizer.detokenizer([1]), ids)).toEqual(['there', ' was', ''])
    expect(stream(tokenizer.detokenizer(), ids)).toEqual(['there', ' was', ''])
  })

  it('is checked, as the prompt is', () => {
    const tokenizer = Tokenizer.byteLevel()
    expect(() => tokenizer.detokenizer([97, -1])).toThrow(expect.objectContaining({ code: 'TOKEN_OUT_OF_RANGE' }))
    expect(() => tokenizer.detokenizer().peek(0.5)).toThrow(expect.objectContaining({ code: 'TOKEN_OUT_OF_RANGE' }))
  })

  it('starts a text after a flush', async () => {
    const tokenizer = await loadFamily('llama')
    const detokenizer = tokenizer.detokenizer(tokenizer.encode('a time'))
    const ids = tokenizer.encode(' there', { addSpecialTokens: false }).slice(-1)
    expect(stream(detokenizer, ids).join('')).toBe(' there')
    expect(stream(detokenizer, ids).join('')).toBe('there')
  })
})

describe('peeking', () => {
  it('names special tokens, and shows an unfinished character as U+FFFD', () => {
    const detokenizer = Tokenizer.byteLevel().detokenizer(Buffer.from('a'))
    expect([0x62, 0xe2, 256, 300].map((id) => detokenizer.peek(id))).toEqual(['b', '\ufffd', '<|endoftext|>', ''])
    detokenizer.push(0xe2)
    detokenizer.push(0x82)
    expect([0x62, 0xac, 256].map((id) => detokenizer.peek(id))).toEqual(['\ufffdb', '€', '\ufffd<|endoftext|>'])
  })

  it('shows a character that the prompt began', () => {
    const detokenizer = Tokenizer.byteLevel().detokenizer([0xe2, 0x82])
    expect([0x62, 0xac, 256].map((id) => detokenizer.peek(id))).toEqual(['b', '€', '<|endoftext|>'])
  })
})

describe('the window detokenizer', () => {
  it('keeps leading spaces that belong to the middle of a text', () => {
    const ids = new TextEncoder().encode('  a b   c')
    expect(stream(windowOf(strippingDecode), ids).join('')).toBe(strippingDecode([...ids]))
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
      expect(stream(windowOf(decode), ids).join('')).toBe(decode(ids))
      expect(stream(Tokenizer.byteLevel().detokenizer(), ids).join('')).toBe(decode(ids))
      const [prompt, rest] = [ids.slice(0, ids.length / 2), ids.slice(ids.length / 2)]
      expect(stream(windowOf(decode, prompt), rest).join('')).toBe(continuation(decode, prompt, rest))
    }
  })

  it('takes time in proportion to the tokens, also for bytes that never make a character', () => {
    let decoded = 0
    const detokenizer = windowOf((ids) => {
      decoded += ids.length
      return new TextDecoder().decode(Uint8Array.from(ids))
    })
    const ids = [...Array(2000).fill(0x80), ...new TextEncoder().encode('€ and 😀')]
    expect(stream(detokenizer, ids).join('')).toBe(new TextDecoder().decode(Uint8Array.from(ids)))
    expect(decoded).toBeLessThan(40 * ids.length)
  })

  it('returns every character as soon as it is whole', () => {
    const detokenizer = windowOf((ids) => new TextDecoder().decode(Uint8Array.from(ids)))
    expect([...new TextEncoder().encode('a€b')].map((id) => detokenizer.push(id))).toEqual(['a', '', '', '€', 'b'])
  })
})
