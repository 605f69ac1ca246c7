// Added tokens in a text: what is expected is what Hugging Face's tokenizers 0.23 gives.
import { describe, expect, it } from 'vitest'
import type { Tokenizer } from '../../../lib/tokenizer.js'
import { addedToken as added, type Family, families, loadFamily } from './families.js'

describe('an added token that must be a single word', () => {
  const withToken = (changes: object) =>
    loadFamily('byteLevel', { added_tokens: [added(256, '<|endoftext|>'), added(900, 'cat', changes)] })
  const found = (tokenizer: Tokenizer, text: string) => tokenizer.encode(text).filter((id) => id === 900).length

  it.each([
    ['cat', 1],
    ['a cat, a cat.', 2],
    ['"cat"', 1],
    ['concatenate', 0],
    ['cats', 0],
    ['tomcat', 0],
    ['cat_', 0],
    ['9cat', 0],
    ['écat', 0],
    ['cat\u0301', 0],
    ['𝐚cat cat𝐚', 0],
    ['catcat', 0],
    ['<|endoftext|>cat<|endoftext|>', 1],
    ['cats and cat and cats', 1],
    ['🐈cat🐈', 1],
  ])('is found in %j %i times', async (text, times) => {
    for (const normalized of [false, true]) {
      const tokenizer = await withToken({ single_word: true, normalized })
      expect(found(tokenizer, text)).toBe(times)
      expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: false })).toBe(text)
    }
  })

  it('is found by its normalized text too', async () => {
    const tokenizer = await loadFamily('byteLevel', {
      normalizer: { type: 'Lowercase' },
      added_tokens: [added(900, 'CAT', { single_word: true, normalized: true })],
    })
    expect([...tokenizer.encode('concat Cat')].filter((id) => id === 900)).toHaveLength(1)
  })

  it('is found everywhere where it need not be', async () => {
    expect(found(await withToken({}), 'concatenate cats, catcat')).toBe(4)
  })
})

describe('an added token', () => {
  it('that takes the space around it takes no U+FEFF', async () => {
    const around = added(900, '<x>', { lstrip: true, rstrip: true })
    const tokenizer = await loadFamily('byteLevel', { added_tokens: [around] })
    const [bom, a, b] = [[0xef, 0xbb, 0xbf], 97, 98]
    expect([...tokenizer.encode('a\ufeff \u0085<x>\t\u0085\ufeffb')]).toEqual([a, ...bom, 900, ...bom, b])
    expect([...tokenizer.encode('\u3000<x> <x>')]).toEqual([900, 900])
  })

  const normalized = async (family: Family, content: string, changes: object = {}) => {
    const { added_tokens } = families[family]
    return loadFamily(family, {
      ...changes,
      added_tokens: [...added_tokens, added(900, content, { normalized: true })],
    })
  }

  it('in normalised text is followed by no start of a text', async () => {
    const tokenizer = await normalized('metaspace', 'CAT', { normalizer: { type: 'Lowercase' } })
    expect([...tokenizer.encode('acata a')]).toEqual([1, 287, 900, 265, 287])
  })

  it('that is not normalised is not found in what normalised text has become', async () => {
    const tokenizer = await loadFamily('llama', { normalizer: { type: 'Lowercase' } })
    expect([...tokenizer.encode('<s>')]).toEqual([1, 1])
    expect([...tokenizer.encode('<S>')]).toEqual([1, 63, 266, 65])
  })

  it('in normalised text is its normal form, here with a space before', async () => {
    const tokenizer = await normalized('llama', 'tim')
    expect([...tokenizer.encode('tim')]).toEqual([1, 900])
    expect([...tokenizer.encode('timtim')]).toEqual([1, 900, 260, 268, 278])
    expect([...tokenizer.encode('atim')]).toEqual([1, 287, 260, 268, 278])
  })
})
