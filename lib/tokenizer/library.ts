// Makes tokenizers of the library, and corrects what it does otherwise than Hugging Face's own, with which models are trained.
import { TextDecoder } from 'node:util'
import type { AddedToken, Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers'
import { gpt2Words } from './gpt2_words.js'
import { splitText } from './split.js'

/** The content of a tokenizer.json, as far as it is read here. */
export interface TokenizerJson {
  model: { type?: string; vocab: object; unk_token?: string | null; byte_fallback?: boolean; fuse_unk?: boolean }
  normalizer?: object | null
  pre_tokenizer?: PreTokenizerJson | null
}
export interface PreTokenizerJson {
  type: string
  add_prefix_space?: boolean
  use_regex?: boolean
  individual_digits?: boolean
  behavior?: string
  invert?: boolean
  pretokenizers?: PreTokenizerJson[]
}

/** Members of the library's objects that are replaced or called. Its types keep them private. */
export interface Internals {
  splitter_unnormalized: Splitter
  splitter_normalized: Splitter
  added_tokens_map: Map<string, AddedToken>
  model: LibraryModel
  normalizer: { normalize(text: string): string } | null
  pre_tokenizer: PreTokenizer | null
  decoder: Decoder | null
}
interface LibraryModel {
  tokens_to_ids: Map<string, number>
  encode(words: string[]): string[]
  /** Those of BPE, best first. */
  merges: [string, string][]
  ignore_merges: boolean
  /** Undefined where the vocabulary has no token for unknown text. */
  unk_token_id?: number
  /** Whether neighbours that are unknown become one token. */
  fuse_unk: boolean
  end_of_word_suffix?: string | null
  continuing_subword_suffix?: string | null
}
interface PreTokenizer {
  /** Those of ByteLevel and of Split. */
  pattern?: RegExp | null
  /** Sequence's. */
  tokenizers?: PreTokenizer[]
  pre_tokenize_text(text: string): string[]
  /** @param options the place of the text among the parts that added tokens divide a longer one into */
  pre_tokenize(text: string, options: { section_index: number }): string[]
}
interface Splitter {
  /** The parts of `text`: added tokens, and what lies between them. */
  split(text: string): string[]
}
interface Decoder {
  config: { type: string }
  decoders?: Decoder[]
  text_decoder?: TextDecoder
}

/** Files of the first years name no type. */
const modelTypes = ['BPE', 'Unigram', 'WordLevel', 'WordPiece', undefined]

/** Throws an Error that says why for a file that the library cannot make a tokenizer of. */
export async function makeLibraryTokenizer(json: TokenizerJson): Promise<LibraryTokenizer> {
  // The library would take any other type for a model of whole words.
  if (!modelTypes.includes(json.model.type)) throw new Error(`the model has the unknown type "${json.model.type}"`)
  const { Tokenizer } = await import('@huggingface/tokenizers')
  const leftOut = { normalizer: null, post_processor: null, decoder: null, added_tokens: [] }
  const pre_tokenizer = json.pre_tokenizer ? correctPreTokenizer(json.pre_tokenizer) : null
  // A model of whole words takes its unknown token from the second argument, not from its own description.
  const tokenizer = new Tokenizer({ ...leftOut, ...json, pre_tokenizer }, { unk_token: json.model.unk_token })
  const internals = tokenizer as unknown as Internals
  for (const splitter of ['splitter_unnormalized', 'splitter_normalized'] as const) {
    internals[splitter] = wordSplitter(internals[splitter], internals.added_tokens_map)
  }
  if (pre_tokenizer !== null) correctSplits(pre_tokenizer, internals.pre_tokenizer!)
  if (internals.decoder !== null) keepByteOrderMarks(internals.decoder)
  if (json.model.type === 'Unigram' && json.model.byte_fallback) addByteFallback(internals.model)
  return tokenizer
}

/**
 * Replaces pre-tokenizers for which letters or digits are only those of ASCII, U+FEFF is a space, a space is always put first, or signs
 * always stay together.
 */
function correctPreTokenizer(json: PreTokenizerJson): PreTokenizerJson {
  switch (json.type) {
    case 'Sequence':
      return { ...json, pretokenizers: (json.pretokenizers ?? []).map(correctPreTokenizer) }
    case 'Whitespace':
      return split('\\w+|[^\\w\\s]+', 'Removed', true)
    case 'WhitespaceSplit':
      return split('\\S+', 'Removed', true)
    case 'Digits':
      return split('\\p{N}', json.individual_digits ? 'Isolated' : 'Contiguous')
    case 'Punctuation':
      return split(SIGN, json.behavior ?? 'Isolated')
    case 'Metaspace':
      return json.add_prefix_space === false ? ({ ...json, prepend_scheme: 'never' } as PreTokenizerJson) : json
    default:
      return json
  }
}

const SIGN = '[\\p{P}\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7e]'

function split(regex: string, behavior: string, invert = false): PreTokenizerJson {
  return { type: 'Split', pattern: { Regex: regex }, behavior, invert } as PreTokenizerJson
}

/** The library's Split knows only some behaviours, and its ByteLevel takes U+FEFF for a space, and U+0085 for none. */
function correctSplits(json: PreTokenizerJson, library: PreTokenizer): void {
  const parts = library.tokenizers ?? []
  for (const [i, part] of (json.pretokenizers ?? []).entries()) correctSplits(part, parts[i]!)
  if (json.type === 'ByteLevel') library.pattern = gpt2Words
  if (json.type !== 'Split') return
  if (!library.pattern) throw new Error('a pre-tokenizer Split has no pattern')
  // What the library does is enough for most tokenizers, and faster.
  if (json.behavior?.toLowerCase() === 'isolated' && !json.invert) return
  library.pre_tokenize_text = (text) => splitText(text, library.pattern!, json)
  library.pre_tokenize_text('') // An unknown behaviour is an error now, not at the first text.
}

const WORD = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]'
const endsInWord = new RegExp(`${WORD}$`, 'u')
const beginsInWord = new RegExp(`^${WORD}`, 'u')

/** A splitter that finds added tokens with `single_word` only where they are no part of a word. */
function wordSplitter(splitter: Splitter, tokens: Map<string, AddedToken>): Splitter {
  if (![...tokens.values()].some((token) => token.single_word)) return splitter
  return {
    split(text) {
      const parts: string[] = []
      let between = ''
      let start = 0
      for (const part of splitter.split(text)) {
        const end = start + part.length
        const token = tokens.get(part)
        const isToken = token !== undefined && !(token.single_word && isInWord(text, start, end))
        if (!isToken) between += part
        if (isToken && between !== '') parts.push(between)
        if (isToken) {
          parts.push(part)
          between = ''
        }
        start = end
      }
      return between === '' ? parts : [...parts, between]
    },
  }
}

function isInWord(text: string, start: number, end: number): boolean {
  // Two units are enough for one character.
  return endsInWord.test(text.slice(Math.max(0, start - 2), start)) || beginsInWord.test(text.slice(end, end + 2))
}

/** The library removes U+FEFF at the start of a run of bytes. */
function keepByteOrderMarks(decoder: Decoder): void {
  if (decoder.config.type === 'ByteFallback') decoder.text_decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  for (const part of decoder.decoders ?? []) keepByteOrderMarks(part)
}

/** The library knows the byte tokens of the BPE model alone. */
function addByteFallback(model: Internals['model']): void {
  const encode = model.encode.bind(model)
  model.encode = (words) =>
    encode(words).flatMap((token) => {
      if (model.tokens_to_ids.has(token)) return [token]
      const bytes = [...Buffer.from(token)].map((byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
      return bytes.every((byte) => model.tokens_to_ids.has(byte)) ? bytes : [token]
    })
}
