// Makes tokenizers of the library, and corrects what it does otherwise than Hugging Face's own, with which models are trained.
import { TextDecoder } from 'node:util'
import type { AddedToken, Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers'

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
  /** ByteLevel's. */
  pattern?: RegExp
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
  if (internals.decoder !== null) keepByteOrderMarks(internals.decoder)
  if (json.model.type === 'Unigram' && json.model.byte_fallback) addByteFallback(internals.model)
  return tokenizer
}

/** Replaces pre-tokenizers for which letters are only those of ASCII, U+FEFF is a space, or a space is always put first. */
function correctPreTokenizer(json: PreTokenizerJson): object {
  switch (json.type) {
    case 'Sequence':
      return { ...json, pretokenizers: (json.pretokenizers ?? []).map(correctPreTokenizer) }
    case 'Whitespace':
      return { type: 'Split', pattern: { Regex: '\\w+|[^\\w\\s]+' }, behavior: 'Removed', invert: true }
    case 'WhitespaceSplit':
      return { type: 'Split', pattern: { Regex: '\\S+' }, behavior: 'Removed', invert: true }
    case 'Metaspace':
      return json.add_prefix_space === false ? { ...json, prepend_scheme: 'never' } : json
    default:
      return json
  }
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
