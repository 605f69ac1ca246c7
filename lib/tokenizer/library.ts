// Makes tokenizers of the library, and corrects what it does otherwise than Hugging Face's own, with which models are trained.
import { TextDecoder } from 'node:util'
import type { AddedToken, Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers'
import { AddedTokens, type TokenTables } from './added_tokens.js'
import { gpt2Words } from './gpt2_words.js'
import { splitText } from './split.js'

/** The content of a tokenizer.json, as far as it is read here. */
export interface TokenizerJson {
  model: { type?: string; vocab: object; unk_token?: string | null; byte_fallback?: boolean; fuse_unk?: boolean }
  normalizer?: NormalizerJson | null
  pre_tokenizer?: PreTokenizerJson | null
}
export interface NormalizerJson {
  type: string
  normalizers?: NormalizerJson[]
  strip_left?: boolean
  strip_right?: boolean
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
export interface Internals extends TokenTables {
  added_tokens_map: Map<string, AddedToken>
  /** The tokens of a text. */
  encode_text(text: string | null): string[] | null
  model: LibraryModel
  pre_tokenizer: PreTokenizer | null
  decoder: Decoder | null
}
interface LibraryModel {
  /** As `encode`; unknown neighbours are one token where they are to be. */
  (words: string[]): string[]
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
  const leftOut = { post_processor: null, decoder: null, added_tokens: [] }
  const normalizer = json.normalizer ? correctNormalizer(json.normalizer) : null
  const pre_tokenizer = json.pre_tokenizer ? correctPreTokenizer(json.pre_tokenizer) : null
  // A model of whole words takes its unknown token from the second argument, not from its own description.
  const tokenizer = new Tokenizer(
    { ...leftOut, ...json, normalizer, pre_tokenizer },
    { unk_token: json.model.unk_token },
  )
  const internals = tokenizer as unknown as Internals
  correctAddedTokens(internals)
  if (pre_tokenizer !== null) correctSplits(pre_tokenizer, internals.pre_tokenizer!)
  if (internals.decoder !== null) keepByteOrderMarks(internals.decoder)
  if (json.model.type === 'Unigram' && json.model.byte_fallback) addByteFallback(internals.model)
  return tokenizer
}

/**
 * The library does not see where added tokens must be single words, takes a word like the normal form of one for that token, and takes
 * each part behind one with `normalized` for the first of the text.
 */
function correctAddedTokens(internals: Internals): void {
  const added = new AddedTokens(internals)
  internals.added_tokens_map = new Map(internals.added_tokens.map((token) => [token.content, token]))
  internals.encode_text = (text) => {
    if (text === null) return null
    const { pre_tokenizer, model } = internals
    return added.split(text).flatMap((part, section_index) => {
      if (part.token !== null) return [part.token.content]
      return model(pre_tokenizer?.pre_tokenize(part.text, { section_index }) ?? [part.text])
    })
  }
}

/** Replaces a normalizer for which U+FEFF is a space, and U+0085 is none. */
function correctNormalizer(json: NormalizerJson): NormalizerJson {
  if (json.type === 'Sequence') return { ...json, normalizers: (json.normalizers ?? []).map(correctNormalizer) }
  if (json.type !== 'Strip') return json
  const without = (Regex: string) => ({ type: 'Replace', pattern: { Regex }, content: '' })
  const left = json.strip_left ? [without('\\A\\s+')] : []
  // The first condition spares a search from every space within the text.
  const right = json.strip_right ? [without('(?<!\\s)\\s+\\z')] : []
  return { type: 'Sequence', normalizers: [...left, ...right] }
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
