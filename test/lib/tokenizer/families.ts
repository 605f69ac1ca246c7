// Small tokenizers of the families that models are published with, each as the content of a tokenizer.json.
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer } from '../../../lib/tokenizer.js'

export const addedToken = (id: number, content: string, changes: object = {}) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: false,
  ...changes,
})
const special = (id: number, content: string) => addedToken(id, content, { special: true })
const words = [' there', ' was', ' a', ' little', ' girl', ',', '.', ' Once', ' upon', ' time']
const byteTokens = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
const vocabOf = (tokens: Iterable<string>) => Object.fromEntries([...new Set(tokens)].map((token, id) => [token, id]))

/** Every beginning of `word`, and the merges that make it of its characters. */
function beginnings(word: string): { tokens: string[]; merges: [string, string][] } {
  const characters = [...word]
  const tokens = characters.map((_, i) => characters.slice(0, i + 1).join(''))
  return { tokens, merges: tokens.slice(1).map((_, i) => [tokens[i]!, characters[i + 1]!]) }
}

function bpe(first: string[], space: string, model: object) {
  const parts = words.map((word) => beginnings(word.replaceAll(' ', space)))
  const characters = [...words.join('').replaceAll(' ', space)]
  const vocab = vocabOf([...first, ...characters, ...parts.flatMap(({ tokens }) => tokens)])
  return { type: 'BPE', vocab, merges: parts.flatMap(({ merges }) => merges), ...model }
}

const begin = '<s>'
const beginFirst = {
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: begin, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  pair: [],
  special_tokens: { [begin]: { id: begin, ids: [1], tokens: [begin] } },
}
const sentencePiece = {
  version: '1.0',
  added_tokens: [special(0, '<unk>'), special(1, begin), special(2, '</s>')],
  post_processor: beginFirst,
  model: bpe(['<unk>', begin, '</s>', ...byteTokens], '▁', { unk_token: '<unk>', byte_fallback: true, fuse_unk: true }),
}
const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }

export const families = {
  /** Llama 2, TinyLlama: the decoder strips the first space of a sequence. */
  llama: {
    ...sentencePiece,
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
  },
  /** Mistral, T5: the decoder strips the space of the first token. */
  metaspace: {
    ...sentencePiece,
    normalizer: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
      ],
    },
  },
  /** GPT-2, Llama 3, Qwen, SmolLM: every byte has a token, and spaces are like other bytes. */
  byteLevel: {
    version: '1.0',
    added_tokens: [special(256, '<|endoftext|>')],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: byteLevel,
    decoder: byteLevel,
    model: bpe([...byteAlphabet(), '<|endoftext|>'], 'Ġ', {}),
  },
  /** BERT: words are joined with spaces. */
  wordPiece: {
    version: '1.0',
    added_tokens: [special(0, '[UNK]')],
    normalizer: null,
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: null,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      vocab: vocabOf(['[UNK]', ...words.map((word) => word.trim()), 'on', '##ce', '##on']),
    },
  },
  /** GPT: a word ends with a mark, which becomes a space. */
  endOfWord: {
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: null,
    decoder: { type: 'BPEDecoder', suffix: '</w>' },
    model: {
      type: 'BPE',
      end_of_word_suffix: '</w>',
      vocab: vocabOf([...'abcdefghijklmnopqrstuvwxyzO,.'].flatMap((letter) => [letter, `${letter}</w>`])),
      merges: [],
    },
  },
}

export type Family = keyof typeof families
export const familyNames = Object.keys(families) as Family[]

/** Writes the tokenizer, changed by `changes`, and `files` beside it into a new folder. */
export function tokenizerFolder(family: Family, changes: object = {}, files: Record<string, unknown> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'mor-tokenizer-'))
  const content = { ...families[family], ...changes }
  for (const [name, file] of Object.entries({ 'tokenizer.json': content, ...files })) {
    writeFileSync(join(folder, name), typeof file === 'string' ? file : JSON.stringify(file))
  }
  return folder
}

export function loadFamily(family: Family, changes?: object): Promise<Tokenizer> {
  return Tokenizer.load(tokenizerFolder(family, changes))
}

/** The characters of GPT-2's table, in the order of its bytes. */
function byteAlphabet(): string[] {
  const ranges = [
    [33, 126],
    [161, 172],
    [174, 255],
  ] as const
  const printable = new Set(ranges.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i)))
  let others = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable.has(byte) ? byte : others++))
}
