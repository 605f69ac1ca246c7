// Turns segments of text into token ids, several batches of them at once and in order.
import { throwIfAborted } from '../errors.js'
import type { Tokenizer } from '../tokenizer.js'
import type { PlacedSegment, SourcePlace } from './source.js'

export interface EncodedSegment {
  /** Without the end token of a document. */
  ids: Int32Array
  /** UTF-8 bytes of its text. */
  bytes: number
  endsDocument: boolean
}

export interface EncodeOptions {
  tokenizer: Tokenizer
  /** Threads that encode. */
  threads: number
  signal: AbortSignal | undefined
}

type PlacedEncoding = EncodedSegment & { after: SourcePlace }

/** Segments of together about this many characters are encoded at once, so that a short one costs no trip to a thread. */
const BATCH_CHARACTERS = 1 << 16
/** Batches that each thread has: one is encoded while the one before is written and the one after is read. */
const BATCHES_PER_THREAD = 2

/** The segments in order. Throws what `segments` throws, and what `encodeBatch` throws. */
export async function* encodeSegments(
  segments: AsyncIterable<PlacedSegment>,
  { tokenizer, threads, signal }: EncodeOptions,
): AsyncGenerator<PlacedEncoding> {
  const end = new AbortController()
  const abort = () => end.abort(signal!.reason)
  signal?.addEventListener('abort', abort, { once: true })
  const encodeTexts = (texts: readonly string[]) =>
    tokenizer.encodeBatch(texts, { addSpecialTokens: false, threads, signal: end.signal })
  const lineEnd = encodeTexts([LINE_END]).then(
    ([ids]) => ids!,
    () => null, // The tokenizer has no token for it.
  )
  const encode = async (batch: readonly PlacedSegment[]): Promise<PlacedEncoding[]> => {
    const encoded = await encodeParts(batch, await lineEnd, encodeTexts)
    return batch.map(({ text, endsDocument, after }, i) => ({
      ids: encoded[i]!,
      bytes: Buffer.byteLength(text),
      endsDocument,
      after,
    }))
  }
  const pending: Promise<PlacedEncoding[]>[] = []
  const begin = (batch: readonly PlacedSegment[]) => {
    const encoded = encode(batch)
    encoded.catch(() => {}) // It is reported when its turn comes, if that comes.
    pending.push(encoded)
  }
  try {
    throwIfAborted(signal, 'encoding the text')
    let batch: PlacedSegment[] = []
    let characters = 0
    for await (const segment of segments) {
      batch.push(segment)
      characters += segment.text.length
      if (characters < BATCH_CHARACTERS) continue
      begin(batch)
      batch = []
      characters = 0
      if (pending.length >= BATCHES_PER_THREAD * threads) yield* await pending.shift()!
    }
    begin(batch)
    while (pending.length > 0) yield* await pending.shift()!
  } finally {
    signal?.removeEventListener('abort', abort)
    if (pending.length > 0) end.abort()
  }
}

/** What nearly all segments that go on with a document follow. */
const LINE_END = '\n'

/**
 * The ids of each segment. Some tokenizers put a space before a text, which is wrong inside of a document: so a segment that goes on with
 * one is encoded behind a line end, the ids of which are dropped. Where they are not there, since a token holds the line end and what follows
 * it, the segment is encoded alone.
 * @param lineEnd its ids; null where it has none
 */
async function encodeParts(
  batch: readonly PlacedSegment[],
  lineEnd: Int32Array | null,
  encode: (texts: readonly string[]) => Promise<Int32Array[]>,
): Promise<Int32Array[]> {
  const isBehind = batch.map(({ continuesDocument }) => continuesDocument && lineEnd !== null)
  const encoded = await encode(batch.map(({ text }, i) => (isBehind[i] ? LINE_END + text : text)))
  const parts = encoded.map((ids, i) => (isBehind[i] ? behind(lineEnd!, ids) : ids))
  const missing = parts.flatMap((ids, i) => (ids === null ? [i] : []))
  const alone = missing.length === 0 ? [] : await encode(missing.map((i) => batch[i]!.text))
  for (const [k, i] of missing.entries()) parts[i] = alone[k]!
  return parts as Int32Array[]
}

/** What follows `start` in `ids`; null where they do not begin with it. */
function behind(start: Int32Array, ids: Int32Array): Int32Array | null {
  return start.every((id, i) => ids[i] === id) ? ids.subarray(start.length) : null
}
