// The built-in tokenizer: one id per byte of UTF-8 and one for end of text.
import { createHash } from 'node:crypto'
import { TextDecoder } from 'node:util'
import { checkPath, checkText, checkTexts } from '../check.js'
import { throwIfAborted } from '../errors.js'
import { lengthOf } from '../tokens.js'
import { byteCharacters, byteLevelJson } from './byte_level_json.js'
import { readDecodeOptions, readEncodeBatchOptions, readEncodeOptions } from './call_options.js'
import { WindowDetokenizer } from './detokenizer.js'
import { tokenizerFiles, writeTokenizerFiles } from './files.js'
import type {
  DecodeOptions,
  Detokenizer,
  EncodeBatchOptions,
  EncodeOptions,
  Tokenizer,
  TokenizerFile,
} from './interface.js'
import { checkTokenId } from './token_id.js'

const END_OF_TEXT = 256
const END_OF_TEXT_NAME = '<|endoftext|>'

/** The same tokenizer in Hugging Face's format: a BPE vocabulary of single bytes without merges. */
const JSON_TEXT = byteLevelJson({
  vocabulary: byteCharacters(),
  merges: [],
  specialTokens: [{ id: END_OF_TEXT, content: END_OF_TEXT_NAME }],
  words: false,
})
const FINGERPRINT = createHash('sha256').update(JSON_TEXT).digest('hex')

class ByteLevelTokenizer implements Tokenizer {
  readonly name = 'byte-level'
  readonly fingerprint = FINGERPRINT
  readonly vocabSize = END_OF_TEXT + 1
  readonly minVocabSize = END_OF_TEXT + 1
  readonly bosTokenId = null
  readonly eosTokenId = END_OF_TEXT
  readonly around = { before: [], after: [] }

  encode(text: string, options?: EncodeOptions): Int32Array {
    checkText(text, 'encode: the text')
    readEncodeOptions(options)
    return new Int32Array(Buffer.from(text, 'utf8'))
  }

  /** On this thread: a megabyte takes a few milliseconds. */
  async encodeBatch(texts: readonly string[], options?: EncodeBatchOptions): Promise<Int32Array[]> {
    checkTexts(texts, 'encodeBatch: texts')
    const { signal } = readEncodeBatchOptions(options)
    throwIfAborted(signal, 'encoding the text')
    return texts.map((text) => this.encode(text))
  }

  decode(ids: ArrayLike<number>, options?: DecodeOptions): string {
    const count = lengthOf(ids, 'decode: the ids')
    const { skipSpecialTokens } = readDecodeOptions(options)
    const decoder = utf8Decoder()
    const bytes = new Uint8Array(count)
    let text = ''
    let length = 0
    for (let i = 0; i < count; i++) {
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

  async save(folder: string): Promise<void> {
    checkPath(folder, 'save: the folder')
    return writeTokenizerFiles(this.filesFor(), folder)
  }

  filesFor(): TokenizerFile[] {
    return tokenizerFiles(JSON_TEXT)
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
