// How llama.cpp splits a text into words before byte-pair encoding, by `tokenizer.ggml.pre`, as parts of a tokenizer.json.

export interface Splitting {
  normalizer: object | null
  pre_tokenizer: object
  /** A word that is a token is taken whole, whatever its merges. */
  ignoreMerges: boolean
}

const byteLevel = (use_regex: boolean) => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex,
})

/** Words by a regular expression, each of them then as bytes. */
const byPattern = (pattern: string): Splitting['pre_tokenizer'] => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
    byteLevel(false),
  ],
})

/** Letters with one sign before them, numbers of at most so many digits, other signs, spaces. */
const words = (digits: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`

const gpt2: Splitting = { normalizer: null, pre_tokenizer: byteLevel(true), ignoreMerges: false }
const singleDigits: Splitting = {
  normalizer: null,
  pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, byteLevel(true)] },
  ignoreMerges: false,
}
const llama3: Splitting = { normalizer: null, pre_tokenizer: byPattern(words('{1,3}')), ignoreMerges: true }
const qwen2: Splitting = { normalizer: { type: 'NFC' }, pre_tokenizer: byPattern(words('')), ignoreMerges: false }

/** By name. Names of one entry split alike. */
export const splittings: Readonly<Record<string, Splitting>> = {
  'gpt-2': gpt2,
  smollm: singleDigits,
  'llama-bpe': llama3,
  llama3,
  'llama-v3': llama3,
  qwen2,
  'deepseek-r1-qwen': qwen2,
}
