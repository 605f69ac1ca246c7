// Where the library's tokenizers differ from Hugging Face's own: U+FEFF, letters beyond ASCII, unknown text.
import { describe, expect, it } from 'vitest'
import { type Internals, makeLibraryTokenizer, type TokenizerJson } from '../../../lib/tokenizer/library.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { type Family, families, loadFamily, tokenizerFolder } from './families.js'

describe('U+FEFF', () => {
  it.each<[Family, object?]>([['llama'], ['metaspace'], ['byteLevel'], ['llama', { model: unigram(true) }]])(
    'is text like any other to the family %s',
    async (family, changes) => {
      const tokenizer = await loadFamily(family, changes)
      for (const text of ['\ufeffa time', 'a\ufeff time', '\ufeff', 'a\ufeff\ufeff']) {
        const ids = tokenizer.encode(text)
        expect(tokenizer.decode(ids)).toBe(text)
        const detokenizer = tokenizer.detokenizer()
        expect([...ids].map((id) => detokenizer.push(id)).join('') + detokenizer.flush()).toBe(text)
      }
    },
  )

  it('is no space between words', async () => {
    const tokenizer = await loadWords({ type: 'WhitespaceSplit' }, ['\ufeffsea', 'sea', 'whale'])
    expect([...tokenizer.encode('\ufeffsea\u0085whale')]).toEqual([1, 3])
  })
})

describe('a normalizer', () => {
  it('strips what is a space, in a sequence too', async () => {
    const strip = { type: 'Strip', strip_left: true, strip_right: true }
    for (const normalizer of [strip, { type: 'Sequence', normalizers: [strip] }]) {
      const tokenizer = await loadFamily('byteLevel', { normalizer })
      expect(tokenizer.decode(tokenizer.encode('\u0085 \ufeffa  b\ufeff\u3000'))).toBe('\ufeffa  b\ufeff')
    }
  })
})

describe('words', () => {
  it('have letters beyond ASCII', async () => {
    const tokenizer = await loadWords({ type: 'Whitespace' }, ['naïve', 'café', '!?', 'é', 'caf'])
    expect([...tokenizer.encode('naïve café!?')]).toEqual([1, 2, 3])
  })

  it('that are unknown are the unknown token, or else an error', async () => {
    const split = { type: 'Sequence', pretokenizers: [{ type: 'WhitespaceSplit' }] }
    expect([...(await loadWords(split, ['sea'])).encode('sea ship')]).toEqual([1, 0])
    const strict = await loadWords(split, ['sea'], null)
    const refused = { code: 'INVALID_ARGUMENT', message: expect.stringMatching(/no token for "ship"/) }
    expect(() => strict.encode('sea ship')).toThrow(expect.objectContaining(refused))
    for (const times of [1, 1000])
      await expect(strict.encodeBatch(['sea '.repeat(times), 'sea ship'])).rejects.toMatchObject(refused)
  })

  it('get no space first where there is to be none', async () => {
    const metaspace = { type: 'Metaspace', replacement: '▁', add_prefix_space: false }
    const tokenizer = await loadFamily('metaspace', { pre_tokenizer: metaspace })
    const begins = await loadFamily('metaspace')
    const bare = { addSpecialTokens: false }
    expect([...tokenizer.encode(' a', bare)]).toEqual([...begins.encode('a', bare)])
    expect([...tokenizer.encode('a', bare)]).not.toEqual([...begins.encode('a', bare)])
  })
})

describe('a pre-tokenizer', () => {
  const byteLevel = (use_regex: boolean) => ({ type: 'ByteLevel', add_prefix_space: false, use_regex })
  const bytes = (word: string) => String.fromCharCode(...Buffer.from(word)) // for the bytes that stand for themselves

  async function words(pre_tokenizer: object, text: string): Promise<string[]> {
    const { model } = families.byteLevel
    const made = await makeLibraryTokenizer({ model, pre_tokenizer } as unknown as TokenizerJson)
    return (made as unknown as Internals).pre_tokenizer!.pre_tokenize(text, { section_index: 0 })
  }

  // What is expected is what Hugging Face's tokenizers 0.23 gives.
  it('Digits knows those of every script', async () => {
    const text = 'a12 ½²٣Ⅷb'
    const single = await words({ type: 'Digits', individual_digits: true }, text)
    expect(single).toEqual(['a', '1', '2', ' ', '½', '²', '٣', 'Ⅷ', 'b'])
    expect(await words({ type: 'Digits', individual_digits: false }, text)).toEqual(['a', '12', ' ', '½²٣Ⅷ', 'b'])
  })

  it('Punctuation takes signs one by one, if it does not say otherwise', async () => {
    const text = 'a... b!$+«。»'
    const single = ['a', '.', '.', '.', ' b', '!', '$', '+', '«', '。', '»']
    expect(await words({ type: 'Punctuation' }, text)).toEqual(single)
    expect(await words({ type: 'Punctuation', behavior: 'Isolated' }, text)).toEqual(single)
    const together = ['a', '...', ' b', '!$+«。»']
    expect(await words({ type: 'Punctuation', behavior: 'Contiguous' }, text)).toEqual(together)
  })

  it('Split does what its behavior says, in a sequence too', async () => {
    const split = { type: 'Split', pattern: { Regex: '\\d' }, behavior: 'MergedWithPrevious', invert: false }
    expect(await words(split, 'a12b')).toEqual(['a1', '2', 'b'])
    const sequence = { type: 'Sequence', pretokenizers: [split, byteLevel(false)] }
    expect(await words(sequence, 'a12b')).toEqual(['a1', '2', 'b'])
    const wrong = { ...split, behavior: 'Mixed' }
    await expect(loadFamily('byteLevel', { pre_tokenizer: wrong })).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringContaining('unknown behavior "Mixed"'),
    })
  })

  it('ByteLevel takes U+FEFF for a sign, and U+0085 for a space', async () => {
    const bom = bytes('\u{feff}')
    expect(await words(byteLevel(true), 'a\ufeff b')).toEqual(['a', bom, 'Ġb'])
    expect(await words(byteLevel(true), 'a \ufeff b')).toEqual(['a', `Ġ${bom}`, 'Ġb'])
    expect(await words(byteLevel(true), 'a  \u0085b')).toEqual(['a', 'ĠĠ', 'Âħ', 'b'])
  })
})

describe('a Unigram model', () => {
  it('falls back to bytes only where it says so', async () => {
    const bytes = Buffer.from('é')
    const [with_, without] = [
      await loadFamily('llama', { model: unigram(true) }),
      await loadFamily('llama', { model: unigram(false) }),
    ]
    const bare = { addSpecialTokens: false }
    expect([...with_.encode('aé', bare)].slice(-2)).toEqual([...bytes].map((byte) => byte + 3))
    expect(without.encode('aé', bare).at(-1)).toBe(0)
  })
})

describe('ids without a token', () => {
  it('have no text, in a vocabulary with holes too', async () => {
    const { vocab } = families.llama.model
    const holes = { ...families.llama.model, vocab: { ...vocab, '▁far': 400 } }
    for (const changes of [{ model: holes }, { model: { ...holes, unk_token: null } }]) {
      const tokenizer = await loadFamily('llama', changes)
      const [there] = [vocab['▁there']!]
      expect(tokenizer.vocabSize).toBe(401)
      expect(tokenizer.decode([there, 350, 400])).toBe('there far')
      const detokenizer = tokenizer.detokenizer([there, 351])
      expect([350, 400].map((id) => detokenizer.push(id))).toEqual(['', ' far'])
      expect(detokenizer.peek(350)).toBe('')
    }
  })
})

it('parts that a tokenizer.json leaves out are none', async () => {
  const { model } = families.byteLevel
  const tokenizer = await Tokenizer.load(tokenizerFolder('byteLevel', {}, { 'tokenizer.json': { model } }))
  expect([...tokenizer.encode('ab')]).toEqual([97, 98])
})

/** The vocabulary of the family llama, all pieces equally likely. */
function unigram(byte_fallback: boolean) {
  const vocab = Object.keys(families.llama.model.vocab).map((token) => [token, -10])
  return { type: 'Unigram', unk_id: 0, vocab, byte_fallback }
}

/** A tokenizer of whole words, which get ids from 1. */
function loadWords(pre_tokenizer: object, words: string[], unknown: string | null = '[UNK]'): Promise<Tokenizer> {
  const vocab = Object.fromEntries([unknown ?? '[PAD]', ...words].map((word, id) => [word, id]))
  const model = { type: 'WordLevel', vocab, unk_token: unknown }
  const parts = { added_tokens: [], normalizer: null, post_processor: null, decoder: null }
  return Tokenizer.load(tokenizerFolder('byteLevel', {}, { 'tokenizer.json': { ...parts, pre_tokenizer, model } }))
}
