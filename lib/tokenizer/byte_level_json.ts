// Writes tokenizers of byte-level BPE in Hugging Face's format.

/**
 * The character that stands for each byte in a byte-level `tokenizer.json`: printable Latin-1 bytes stand for
 * themselves, the 68 others for U+0100, U+0101, … in order (the table GPT-2 introduced).
 */
export function byteCharacters(): string[] {
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++))
}

export interface ByteLevelBpe {
  /** The tokens in the order of their ids. */
  vocabulary: readonly string[]
  merges: readonly (readonly [string, string])[]
  specialTokens: readonly { id: number; content: string }[]
  /** Whether a text is split into words first, by the pattern of GPT-2. */
  words: boolean
}

/** The content of its `tokenizer.json`. */
export function byteLevelJson({ vocabulary, merges, specialTokens, words }: ByteLevelBpe): string {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: words }
  return `${JSON.stringify(
    {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: specialTokens.map(({ id, content }) => ({
        id,
        content,
        special: true,
        normalized: false,
        single_word: false,
        lstrip: false,
        rstrip: false,
      })),
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
        merges,
      },
    },
    null,
    1,
  )}\n`
}
