// The lines of a text file, one at a time, so that a file larger than the longest string can be read.
import { createReadStream } from 'node:fs'
import { throwIfAborted, toMorError } from './errors.js'

/** Bytes read at once. */
const READ_BYTES = 1 << 20

export interface FileLine {
  text: string
  /** Whether a line end follows: the last line of a file that is still written may have none. */
  ended: boolean
}

/**
 * Only "\n" ends a line: texts may hold the Unicode line separators. What follows the last line end is a line too, empty or not.
 * @throws {MorError} IO_ERROR for a file that cannot be read, ABORTED
 */
export async function* fileLines(path: string, signal?: AbortSignal): AsyncGenerator<FileLine> {
  let parts: Buffer[] = []
  try {
    for await (const chunk of createReadStream(path, { signal, highWaterMark: READ_BYTES }) as AsyncIterable<Buffer>) {
      let start = 0
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
        parts.push(chunk.subarray(start, end))
        yield { text: Buffer.concat(parts).toString(), ended: true }
        parts = []
        start = end + 1
      }
      parts.push(chunk.subarray(start))
    }
  } catch (error) {
    throwIfAborted(signal, `reading ${path}`)
    throw toMorError(error, path)
  }
  yield { text: Buffer.concat(parts).toString(), ended: false }
}
