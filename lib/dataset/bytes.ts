// Reads the bytes of a file or of standard input as a stream, unpacked if they are compressed.
import { createReadStream } from 'node:fs'
import { addAbortSignal } from 'node:stream'
import { MorError, toMorError } from '../errors.js'
import { type Compression, STANDARD_INPUT, shownPath } from './file_kind.js'
import { unpackGzip } from './gzip.js'

/** Bytes read at once. */
const READ_BYTES = 1 << 16
/** Compressed bytes that are unpacked in one turn of the event loop: in zstd, 4 of them may stand for 128 KiB. */
const UNPACK_BYTES = 1 << 12

/**
 * Throws `INVALID_ARGUMENT` for an archive that is damaged or cut short, naming how far it was read; `IO_ERROR` for what cannot
 * be read; `ABORTED`.
 */
export async function* readBytes(
  path: string,
  compression: Compression | null,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const file = path === STANDARD_INPUT ? process.stdin : createReadStream(path, { highWaterMark: READ_BYTES })
  if (signal) addAbortSignal(signal, file)
  let read = 0
  let failure: unknown = null
  async function* counted(): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of file as AsyncIterable<Buffer>) {
        read += chunk.length
        yield chunk
      }
    } catch (error) {
      failure = error
      throw error
    }
  }
  try {
    yield* compression === null ? counted() : unpackers[compression](counted())
  } catch (error) {
    if (compression === null || failure !== null) throw toMorError(failure ?? error, shownPath(path))
    throw new MorError(
      'INVALID_ARGUMENT',
      `${path} is compressed with ${compression}, and damaged or cut short near byte ${read}: ${(error as Error).message}`,
      { cause: error },
    )
  } finally {
    file.destroy()
  }
}

const unpackers: Record<Compression, (bytes: AsyncGenerator<Buffer>) => AsyncIterable<Buffer>> = {
  gzip: unpackGzip,
  zstd: async function* (bytes) {
    const { Decompress } = await import('fzstd')
    let unpacked: Buffer[] = []
    const stream = new Decompress((chunk) => unpacked.push(Buffer.from(chunk)))
    for await (const chunk of bytes) {
      for (let start = 0; start < chunk.length; start += UNPACK_BYTES) {
        stream.push(chunk.subarray(start, start + UNPACK_BYTES))
        yield* unpacked
        unpacked = []
      }
    }
    stream.push(new Uint8Array(0), true)
    yield* unpacked
  },
  xz: async function* (bytes) {
    const { unpackXz } = await import('./xz.js')
    yield* unpackXz(bytes)
  },
}
