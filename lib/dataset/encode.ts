// Turns segments of text into token ids, several batches of them at once and in order.
import { setMaxListeners } from 'node:events'
import { throwIfAborted } from '../errors.js'
import type { Tokenizer } from '../tokenizer.js'
import type { Segment, SourcePlace } from './source.js'

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

type Placed<T> = T & { after: SourcePlace }

/** Segments of together about this many characters are encoded at once, so that a short one costs no trip to a thread. */
const BATCH_CHARACTERS = 1 << 16
/** Batches that each thread has: one is encoded while the one before is written and the one after is read. */
const BATCHES_PER_THREAD = 2

/** The segments in order. Throws what `segments` throws, and what `encodeBatch` throws. */
export async function* encodeSegments(
  segments: AsyncIterable<Placed<Segment>>,
  { tokenizer, threads, signal }: EncodeOptions,
): AsyncGenerator<Placed<EncodedSegment>> {
  // All batches under way listen for its end; the warning of a leak is for signals that others share.
  const end = new AbortController()
  setMaxListeners(0, end.signal)
  const abort = () => end.abort(signal!.reason)
  signal?.addEventListener('abort', abort, { once: true })
  const encode = async (batch: readonly Placed<Segment>[]): Promise<Placed<EncodedSegment>[]> => {
    const texts = batch.map(({ text }) => text)
    const encoded = await tokenizer.encodeBatch(texts, { addSpecialTokens: false, threads, signal: end.signal })
    return batch.map(({ text, endsDocument, after }, i) => ({
      ids: encoded[i]!,
      bytes: Buffer.byteLength(text),
      endsDocument,
      after,
    }))
  }
  const pending: Promise<Placed<EncodedSegment>[]>[] = []
  const begin = (batch: readonly Placed<Segment>[]) => {
    const encoded = encode(batch)
    encoded.catch(() => {}) // It is reported when its turn comes, if that comes.
    pending.push(encoded)
  }
  try {
    throwIfAborted(signal, 'encoding the text')
    let batch: Placed<Segment>[] = []
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
