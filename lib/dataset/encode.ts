// Turns the text of files into token ids, a segment at a time.
import type { Tokenizer } from '../tokenizer.js'
import { readSegments, type Segment } from './source.js'

export interface EncodedSegment {
  /** Without the end token of a document. */
  ids: Int32Array
  /** UTF-8 bytes of its text. */
  bytes: number
  endsDocument: boolean
}

export interface EncodeOptions {
  tokenizer: Tokenizer
  textField: string
  signal: AbortSignal | undefined
}

/** Segments of together about this many characters are encoded at once, so that a short one costs no trip to the thread. */
const BATCH_CHARACTERS = 1 << 16

/** The segments of `files` in order. Throws what `readSegments` and `encodeBatch` throw. */
export async function* encodeSegments(
  files: readonly string[],
  { tokenizer, textField, signal }: EncodeOptions,
): AsyncGenerator<EncodedSegment> {
  const encode = async (segments: readonly Segment[]): Promise<EncodedSegment[]> => {
    const texts = segments.map(({ text }) => text)
    const encoded = await tokenizer.encodeBatch(texts, { addSpecialTokens: false, signal })
    return segments.map(({ text, endsDocument }, i) => ({
      ids: encoded[i]!,
      bytes: Buffer.byteLength(text),
      endsDocument,
    }))
  }
  let batch: Segment[] = []
  let characters = 0
  for (const file of files) {
    for await (const segment of readSegments(file, textField)) {
      batch.push(segment)
      characters += segment.text.length
      if (characters < BATCH_CHARACTERS) continue
      yield* await encode(batch)
      batch = []
      characters = 0
    }
  }
  yield* await encode(batch)
}
