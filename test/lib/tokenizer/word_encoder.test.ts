// Encoding word by word gives what the library gives for the whole text.
import { expect, it } from 'vitest'
import { byteCharacters } from '../../../lib/tokenizer/byte_level_json.js'
import type { TokenizerJson } from '../../../lib/tokenizer/library.js'
import { makeLibraryTokenizer } from '../../../lib/tokenizer/library.js'
import { WordEncoder } from '../../../lib/tokenizer/word_encoder.js'

/** Byte-level BPE that merges the pairs of `merges`. */
function bpe(pre_tokenizer: object, merges: [string, string][], model: object = {}): TokenizerJson {
  const tokens = [...byteCharacters(), ...merges.map((pair) => pair.join(''))]
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]))
  const added = { id: tokens.length, content: '<|end|>', special: true, normalized: false }
  return {
    added_tokens: [{ ...added, single_word: false, lstrip: false, rstrip: false }],
    pre_tokenizer,
    model: { type: 'BPE', vocab, merges, ...model },
  } as unknown as TokenizerJson
}

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, use_regex: true }
const pattern =
  "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const split = {
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
    { ...byteLevel, use_regex: false },
  ],
}
const digits = {
  type: 'Sequence',
  pretokenizers: [{ type: 'Digits', individual_digits: true }, byteLevel],
}
const merges: [string, string][] = [
  ['Ġ', 't'],
  ['Ġt', 'h'],
  ['Ġth', 'e'],
  ['h', 'e'],
  ['l', 'l'],
  ['Ġ', 'Ġ'],
  ['Ċ', 'Ċ'],
  ['1', '2'],
]

function randomText(seed: number): string {
  const pieces = [
    ' ',
    '  ',
    '\n',
    '\n\n',
    '\t',
    'the',
    ' the',
    'hell',
    "'s",
    "'LL",
    '12',
    '3456',
    '–',
    'ü',
    '😀',
    '漢字',
    '\u00a0',
    '!?',
    'x'.repeat(40),
    '\ud800',
    '\ufeff',
  ]
  let state = seed
  const next = () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return state >>> 16
  }
  return Array.from({ length: 200 }, () => pieces[next() % pieces.length]).join('')
}

it.each([
  ['ByteLevel', byteLevel],
  ['Split and ByteLevel', split],
  ['Digits and ByteLevel', digits],
])('%s: random texts, twice, so that the words are known', async (_, pre_tokenizer) => {
  const json = bpe(pre_tokenizer, merges)
  const library = await makeLibraryTokenizer(json)
  const words = WordEncoder.of(json, library)!
  for (const seed of [...Array(30).keys(), ...Array(30).keys()]) {
    const text = randomText(seed + 1)
    expect(words.encode(text)).toEqual(library.encode(text, { add_special_tokens: false }).ids)
  }
  expect(words.encode('')).toEqual([])
})

it('leaves to the library a text with an added token, and a byte that the vocabulary lacks', async () => {
  const json = bpe(byteLevel, merges)
  const words = WordEncoder.of(json, await makeLibraryTokenizer(json))!
  expect(words.encode('a<|end|>b')).toBeNull()
  expect(words.encode('<|end|>')).toBeNull()
  const lacking = bpe(byteLevel, [])
  delete (lacking.model.vocab as Record<string, number>).z
  const library = await makeLibraryTokenizer(lacking)
  const { ids } = library.encode('az', { add_special_tokens: false })
  expect(WordEncoder.of(lacking, library)!.encode('az') ?? ids).toEqual(ids)
})

it.each([
  ['a space before the first word', bpe({ ...byteLevel, add_prefix_space: true }, merges)],
  ['no words', bpe({ ...byteLevel, use_regex: false }, merges)],
  ['a normalizer', { ...bpe(byteLevel, merges), normalizer: { type: 'NFC' } }],
  ['unknown tokens that are joined', bpe(byteLevel, merges, { fuse_unk: true })],
])('is not there for a tokenizer with %s', async (_, json) => {
  expect(WordEncoder.of(json, await makeLibraryTokenizer(json))).toBeNull()
})
