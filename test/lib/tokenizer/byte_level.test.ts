// The byte-level tokenizer: bytes in, bytes out, and the same as its tokenizer.json read by the Hugging Face library.
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer as HuggingFace } from '@huggingface/tokenizers'
import { describe, expect, it } from 'vitest'
import { Tokenizer } from '../../../lib/tokenizer.js'

const tokenizer = Tokenizer.byteLevel()
const texts = [
  '',
  'Call me Ishmael.',
  ' two  spaces\t\r\n',
  'naïve café',
  '€ 😀 漢字',
  '\u0000\u001f\u007f',
  '\ufeffmark',
  "don't",
]

describe('the byte-level tokenizer', () => {
  it.each(texts)('gives back %j', (text) => {
    const ids = tokenizer.encode(text)
    expect([...ids]).toEqual([...new TextEncoder().encode(text)])
    expect(tokenizer.decode(ids)).toBe(text)
  })

  it('has 257 ids, the last of which ends a text', () => {
    expect(tokenizer).toMatchObject({ name: 'byte-level', vocabSize: 257, bosTokenId: null, eosTokenId: 256 })
    expect(tokenizer.decode([72, 105, 256, 33])).toBe('Hi!')
    expect(tokenizer.decode([72, 105, 256, 33], { skipSpecialTokens: false })).toBe('Hi<|endoftext|>!')
  })

  it('gives no text for ids of padding rows and replaces bytes that are not UTF-8', () => {
    expect(tokenizer.decode([65, 300, 66])).toBe('AB')
    expect(tokenizer.decode([65, 0xff, 66])).toBe('A\ufffdB')
    expect(tokenizer.decode([65, 0xe2, 0x82])).toBe('A\ufffd')
  })

  it.each([-1, 1.5, Number.NaN])('refuses %s as an id', (id) => {
    expect(() => tokenizer.decode([1, id])).toThrow(
      expect.objectContaining({ code: 'TOKEN_OUT_OF_RANGE', message: expect.stringContaining(`token 1 is ${id}`) }),
    )
    expect(() => tokenizer.detokenizer().push(id)).toThrow(expect.objectContaining({ code: 'TOKEN_OUT_OF_RANGE' }))
  })

  it('saves a tokenizer.json that loads as itself', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mor-tokenizer-'))
    await tokenizer.save(folder)
    expect(await Tokenizer.load(folder)).toBe(tokenizer)
    const changed = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'))
    changed.model.merges.push(['a', 'b'])
    changed.model.vocab.ab = 257
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(changed))
    const other = await Tokenizer.load(folder)
    expect(other).not.toBe(tokenizer)
    expect([...other.encode('cab')]).toEqual([99, 257])
    expect(other.eosTokenId).toBe(256)
  })

  it('saves a tokenizer.json that means the same elsewhere', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mor-tokenizer-'))
    await tokenizer.save(folder)
    const other = new HuggingFace(JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8')), {})
    for (const text of texts.filter((text) => text !== '')) {
      expect(other.encode(text).ids).toEqual([...tokenizer.encode(text)])
    }
    // Every byte, in every place: the oracle knows the byte alphabet independently.
    const everyCharacter = String.fromCodePoint(...Array.from({ length: 0x800 }, (_, code) => code))
    expect(other.encode(everyCharacter).ids).toEqual([...tokenizer.encode(everyCharacter)])
    const exact = { clean_up_tokenization_spaces: false }
    expect(other.decode([...tokenizer.encode(everyCharacter)], exact)).toBe(everyCharacter)
  })
})
