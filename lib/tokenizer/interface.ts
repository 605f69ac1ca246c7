// The interface of every tokenizer.

export interface EncodeOptions {
  /** Default true: adds the tokens that the tokenizer puts around a prompt, such as a begin token. */
  addSpecialTokens?: boolean
}

export interface EncodeBatchOptions extends EncodeOptions {
  /** Most threads that calls under way at once are spread over, 1 by default. Each holds a tokenizer of its own. */
  threads?: number
  signal?: AbortSignal
}

export interface DecodeOptions {
  /** Default true: leaves out begin and end tokens. False: writes them by name. */
  skipSpecialTokens?: boolean
}

/** One of the files that a tokenizer is saved as. */
export interface TokenizerFile {
  name: string
  /** Null: it has none of this name, and one of another tokenizer is removed. */
  content: string | Uint8Array | null
}

export interface Around {
  before: readonly number[]
  after: readonly number[]
}

/** Turns text into token ids and back. It never changes, so calls may share it. */
export interface Tokenizer {
  /** `byte-level`, or the path of the file that it was loaded from. */
  readonly name: string
  /** SHA-256 (hex) of its `tokenizer.json`. Equal fingerprints mean equal ids for every text; token shards record it. */
  readonly fingerprint: string
  /** Largest token id + 1. A model's `vocab_size` may be larger (padding). */
  readonly vocabSize: number
  /**
   * The least `vocab_size` of a model for it: enough for every text in which no added token is written, and for begin and end
   * tokens. It is smaller than `vocabSize` where other added tokens have the largest ids, such as a padding token.
   */
  readonly minVocabSize: number
  /** Begin-of-sequence id, null where the tokenizer has none. */
  readonly bosTokenId: number | null
  /** End-of-text id: separates documents in a dataset and ends a generation. Null where the tokenizer has none. */
  readonly eosTokenId: number | null
  /**
   * The ids of `text`. The byte-level tokenizer puts nothing around a prompt. Lone surrogates become U+FFFD.
   * @throws {MorError} INVALID_ARGUMENT for wrong values, and for text without a token, where there is none for unknown text
   * either
   */
  encode(text: string, options?: EncodeOptions): Int32Array
  /**
   * The ids of each of `texts`, as `encode` gives them. It does not block the event loop: long texts are encoded on other
   * threads, each call on one of them.
   * @throws {MorError} ABORTED, OUT_OF_MEMORY, and what `encode` throws
   */
  encodeBatch(texts: readonly string[], options?: EncodeBatchOptions): Promise<Int32Array[]>
  /**
   * The text of `ids`; bytes that are not UTF-8 become U+FFFD. Ids without a token, such as padding of a model's vocabulary,
   * give no text.
   * @throws {MorError} INVALID_ARGUMENT for wrong values, TOKEN_OUT_OF_RANGE for an id that is not an integer from 0
   */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string
  /**
   * A new decoder for one stream of ids. The stream goes on from the ids of `prompt` (default: none): its text is that of
   * prompt and stream together, less that of the prompt. So a tokenizer that writes no space at the start of a text writes
   * one between prompt and stream.
   */
  detokenizer(prompt?: ArrayLike<number>): Detokenizer
  /**
   * Writes `tokenizer.json`, and what lay beside it where it was loaded (`tokenizer_config.json`, a chat template), from which
   * `Tokenizer.load(folder)` makes the same. Such files of another tokenizer are removed.
   * @throws {MorError} IO_ERROR
   */
  save(folder: string): Promise<void>
  /** @internal The ids that `encode` puts before and after a text. */
  readonly around: Around
  /** @internal What `save` writes into `folder` and removes from it. */
  filesFor(folder: string): TokenizerFile[]
}

/**
 * Decodes ids one at a time. The pieces of text that it returns make up the text of all ids without special tokens. No piece
 * ends inside a character: the bytes of an unfinished character are held back until an id completes it. A character that the
 * prompt leaves unfinished belongs to the stream if an id of the stream completes it.
 */
export interface Detokenizer {
  /** The text that `id` completes; '' while a character is unfinished. */
  push(id: number): string
  /**
   * The text that `id` would add to what was returned, with U+FFFD for an unfinished character and special tokens by name.
   * Nothing is changed.
   */
  peek(id: number): string
  /** The rest, with U+FFFD for an unfinished character. The detokenizer can then decode another stream, from its start. */
  flush(): string
}
