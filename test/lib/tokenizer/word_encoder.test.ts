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
    '\udc00',
    '\ufeff',
    '▁',
    'e\u0301',
    '\u0327\u0301',
    '\u1100\u1161',
    '\u212b',
    'e he',
    '.\n',
    '\0',
    'ññ',
  ]
  let state = seed
  const next = () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return state >>> 16
  }
  return Array.from({ length: 200 }, () => pieces[next() % pieces.length]).join('')
}

/** BPE on characters, as vocabularies of SentencePiece have it. The merges come best first; the first tokens are special ones. */
function pieces(
  changes: object = {},
  { bytes = true, merges = pieceMerges }: { bytes?: boolean; merges?: [string, string][] } = {},
) {
  const known = [...'▁abcehlotxßé😀漢12.,!\n']
  const tokens = [
    '<unk>',
    '<s>',
    ...(bytes ? Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`) : []),
    ...known,
    ...merges.map((pair) => pair.join('')),
  ]
  const vocab = Object.fromEntries([...new Set(tokens)].map((token, id) => [token, id]))
  const special = { special: true, normalized: false, single_word: false, lstrip: false, rstrip: false }
  const { model, ...parts } = changes as { model?: object }
  return {
    added_tokens: [0, 1].map((id) => ({ id, content: tokens[id], ...special })),
    normalizer: { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, spaces] },
    pre_tokenizer: null,
    ...parts,
    model: { type: 'BPE', vocab, merges, unk_token: '<unk>', fuse_unk: true, byte_fallback: bytes, ...model },
  } as unknown as TokenizerJson
}

const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
const pieceMerges: [string, string][] = [
  ['▁', 't'],
  ['h', 'e'],
  ['▁t', 'he'],
  ['l', 'l'],
  ['▁', '▁'],
  ['▁▁', '▁▁'],
  ['he', 'll'],
  ['😀', '漢'],
  ['x', 'x'],
  ['xx', 'xx'],
]
/** Merges across the beginnings and the ends of words. */
const acrossWords: [string, string][] = [
  ...pieceMerges,
  ['e', '▁'],
  ['e▁', 'he'],
  ['.', '\n'],
  ['the', '▁'],
  ['l', '▁▁'],
]
const metaspace = (prepend_scheme: string) => ({ type: 'Metaspace', replacement: '▁', prepend_scheme, split: false })
const bare = { normalizer: null, pre_tokenizer: null }
const nfc = { normalizer: { type: 'NFC' } }

it.each<[string, TokenizerJson]>([
  ['ByteLevel', bpe(byteLevel, merges)],
  ['Split and ByteLevel', bpe(split, merges)],
  ['Digits and ByteLevel', bpe(digits, merges)],
  ['a space before the first word', bpe({ ...byteLevel, add_prefix_space: true }, merges)],
  ['bytes without words', bpe({ ...byteLevel, use_regex: false }, merges)],
  ['bytes of composed characters', { ...bpe(split, merges), ...nfc }],
  ['bytes of small letters', { ...bpe(byteLevel, merges), normalizer: { type: 'Lowercase' } }],
  ['unknown bytes that are joined', without(bpe(byteLevel, merges, { fuse_unk: true, unk_token: 'a' }), 'x', 'Ġ')],
  ['pieces as in Llama 2', pieces()],
  ['pieces of composed characters', pieces(nfc)],
  ['pieces that cross words', pieces({}, { merges: acrossWords })],
  ['pieces with Metaspace', pieces({ ...bare, pre_tokenizer: metaspace('first') })],
  ['pieces with Metaspace always', pieces({ ...bare, pre_tokenizer: metaspace('always') })],
  ['pieces without spaces before', pieces({ normalizer: spaces })],
  ['pieces, unknown ones joined', pieces({}, { bytes: false })],
  ['pieces, unknown ones apart', pieces({ model: { fuse_unk: false } }, { bytes: false })],
  ['pieces, unknown ones left out', pieces({ model: { unk_token: null } }, { bytes: false })],
  [
    'pieces with half of the bytes',
    without(pieces(), ...Array.from({ length: 100 }, (_, i) => `<0x${(128 + i).toString(16).toUpperCase()}>`)),
  ],
  ['pieces whose parts are unknown', without(pieces(), 'h', '😀')],
])('%s: random texts, twice, so that the words are known', async (_, json) => {
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

it('leaves to the library a text that has an added token once it is normalised', async () => {
  const json = pieces({ normalizer: { type: 'Lowercase' } })
  const added = { special: false, single_word: false, lstrip: false, rstrip: false }
  const normalized = { id: 400, content: 'THE', normalized: true, ...added }
  const list = (json as unknown as { added_tokens: object[] }).added_tokens
  list.push(normalized)
  const library = await makeLibraryTokenizer(json)
  const words = WordEncoder.of(json, library)!
  for (const text of ['The', 'a The b', '<s>']) expect(words.encode(text), text).toBeNull()
  for (const text of ['a tale', '<S>'])
    expect(words.encode(text), text).toEqual(library.encode(text, { add_special_tokens: false }).ids)
})

it.each([
  ['whose words may be tokens before they are merged', pieces({ model: { ignore_merges: true } })],
  ['with a mark at the ends of words', pieces({ model: { end_of_word_suffix: '</w>' } })],
  ['that is no BPE', pieces({ model: { type: 'WordLevel' } })],
])('is not there for a tokenizer %s', async (_, json) => {
  expect(WordEncoder.of(json, await makeLibraryTokenizer(json))).toBeNull()
})

function without(json: TokenizerJson, ...tokens: string[]): TokenizerJson {
  for (const token of tokens) delete (json.model.vocab as Record<string, number>)[token]
  return json
}
