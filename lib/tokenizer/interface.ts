// What a tokenizer is to this package, whatever file it came from.
/** Text to token ids and back. Immutable; safe to share between calls. */
export interface Tokenizer {
  /** For people: `byte-level`, or the file it was loaded from. */
  readonly name: string
  /** SHA-256 (hex) of its `tokenizer.json`. Equal fingerprints mean equal ids for every text; token shards record it. */
  readonly fingerprint: string
  /** Largest token id + 1. A model's `vocab_size` may be larger (padding), never smaller. */
  readonly vocabSize: number
  /** Begin-of-sequence id, null where the tokenizer has none. */
  readonly bosTokenId: number | null
  /** End-of-text id: separates documents in a dataset and ends a generation. Null where the tokenizer has none. */
  readonly eosTokenId: number | null
  /**
   * Ids of `text`. `addSpecialTokens` (default true) adds what the tokenizer puts around a prompt, such as a begin token;
   * the byte-level tokenizer adds nothing. Lone surrogates become U+FFFD.
   */
  encode(text: string, options?: { addSpecialTokens?: boolean }): Int32Array
  /**
   * Text of `ids`; bytes that are not UTF-8 become U+FFFD. `skipSpecialTokens` (default true) leaves out begin and end
   * tokens. Ids at or above `vocabSize` (a model's padding rows) give no text. Throws `TOKEN_OUT_OF_RANGE` for what is
   * not a non-negative integer.
   */
  decode(ids: ArrayLike<number>, options?: { skipSpecialTokens?: boolean }): string
  /** A new decoder for one stream of ids. */
  detokenizer(): Detokenizer
  /** Writes `tokenizer.json` (and `tokenizer_config.json` where there was one) so that `Tokenizer.load(folder)` gives it back. */
  save(folder: string): Promise<void>
}

/**
 * Decodes ids one at a time. The concatenation of everything returned is the text of all ids, special tokens left out, and
 * no piece ever ends inside a character: bytes of an unfinished character wait for the ids that finish it.
 */
export interface Detokenizer {
  /** The text that `id` completes; '' while a character is unfinished. */
  push(id: number): string
  /** The rest, unfinished bytes as U+FFFD. The detokenizer is then as new. */
  flush(): string
}
