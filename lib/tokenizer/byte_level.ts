// The built-in tokenizer: one id per byte of UTF-8 and one for end of text.
import { createHash } from 'node:crypto'
import { TextDecoder } from 'node:util'
import { throwIfAborted } from '../errors.js'
import { WindowDetokenizer } from './detokenizer.js'
import { writeTokenizerFiles } from './files.js'
import type { Detokenizer, EncodeBatchOptions, Tokenizer } from './interface.js'
import { checkTokenId } from './token_id.js'

const END_OF_TEXT = 256
const END_OF_TEXT_NAME = '<|endoftext|>'

/**
 * The character that stands for each byte in a byte-level `tokenizer.json`: printable Latin-1 bytes stand for
 * themselves, the 68 others for U+0100, U+0101, … in order (the table GPT-2 introduced).
 */
export function byteCharacters(): string[] {
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++))
}

/** The same tokenizer in Hugging Face's format: a BPE vocabulary of single bytes without merges. */
function tokenizerJson(): string {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false }
  const endOfText = { id: END_OF_TEXT, content: END_OF_TEXT_NAME, special: true, normalized: false }
  return `${JSON.stringify(
    {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [{ ...endOfText, single_word: false, lstrip: false, rstrip: false }],
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
        vocab: Object.fromEntries(byteCharacters().map((character, byte) => [character, byte])),
        merges: [],
      },
    },
    null,
    1,
  )}\n`
}

const JSON_TEXT = tokenizerJson()
const FINGERPRINT = createHash('sha256').update(JSON_TEXT).digest('hex')

class ByteLevelTokenizer implements Tokenizer {
  readonly name = 'byte-level'
  readonly fingerprint = FINGERPRINT
  readonly vocabSize = END_OF_TEXT + 1
  readonly minVocabSize = END_OF_TEXT + 1
  readonly bosTokenId = null
  readonly eosTokenId = END_OF_TEXT

  encode(text: string): Int32Array {
    return new Int32Array(Buffer.from(text, 'utf8'))
  }

  /** On this thread: a megabyte takes a few milliseconds. */
  async encodeBatch(texts: readonly string[], { signal }: EncodeBatchOptions = {}): Promise<Int32Array[]> {
    throwIfAborted(signal, 'encoding the text')
    return texts.map((text) => this.encode(text))
  }

  decode(ids: ArrayLike<number>, { skipSpecialTokens = true }: { skipSpecialTokens?: boolean } = {}): string {
    const decoder = utf8Decoder()
    const bytes = new Uint8Array(ids.length)
    let text = ''
    let length = 0
    for (let i = 0; i < ids.length; i++) {
      const id = checkTokenId(ids[i]!, i)
      if (id < END_OF_TEXT) {
        bytes[length++] = id
      } else if (id === END_OF_TEXT && !skipSpecialTokens) {
        text += decoder.decode(bytes.subarray(0, length)) + END_OF_TEXT_NAME
        length = 0
      }
    }
    return text + decoder.decode(bytes.subarray(0, length))
  }

  detokenizer(prompt?: ArrayLike<number>): Detokenizer {
    const decoder = utf8Decoder()
    // Most windows are a few letters of ASCII, and TextDecoder takes longer to start than they take to convert.
    const decode = (bytes: number[]) =>
      bytes.every((byte) => byte < 128) ? String.fromCharCode(...bytes) : decoder.decode(Uint8Array.from(bytes))
    const leftOut = (id: number) => {
      if (id < END_OF_TEXT) return null
      return id === END_OF_TEXT ? END_OF_TEXT_NAME : ''
    }
    return new WindowDetokenizer({ decode, leftOut }, prompt)
  }

  save(folder: string): Promise<void> {
    return writeTokenizerFiles(JSON_TEXT, folder)
  }
}

/** A byte order mark is text like any other: what was encoded comes back byte for byte. */
function utf8Decoder(): TextDecoder {
  return new TextDecoder('utf-8', { ignoreBOM: true })
}

const instance = new ByteLevelTokenizer()

export function byteLevelTokenizer(): Tokenizer {
  return instance
}
