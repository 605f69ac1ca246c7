// Reads the texts of a Parquet file, a row group at a time, in a thread: a group takes long to unpack, and the library may go on
// without end in one that is damaged.
import { on } from 'node:events'
import { type ErrorCode, MorError, throwIfAborted } from '../errors.js'
import { startWorker } from '../worker.js'

/** What the thread starts with. Each message to it asks for the next row group. */
export interface ParquetFile {
  path: string
  textField: string
}

/** Its answer: the texts of a row group, null after the last one, or an error. */
export type ParquetReply = { texts: string[] | null } | { error: string; code: ErrorCode }

/**
 * The strings of the column `textField` in order; rows without one are left out. Memory holds the texts of one row group.
 * Throws `INVALID_ARGUMENT` for a damaged file and for text that is not UTF-8, naming the rows, and for another column;
 * `OUT_OF_MEMORY`; `IO_ERROR` for what cannot be read; `ABORTED`.
 */
export async function* parquetTexts(
  path: string,
  textField: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<string> {
  throwIfAborted(signal, 'reading the text')
  const file: ParquetFile = { path, textField }
  const worker = startWorker('dataset/parquet_worker', { workerData: file })
  try {
    const replies = on(worker, 'message', { signal, close: ['exit'] }) as AsyncIterable<[ParquetReply]>
    worker.postMessage('next')
    for await (const [reply] of replies) {
      if ('error' in reply) throw new MorError(reply.code, reply.error)
      if (reply.texts === null) return
      yield* reply.texts
      worker.postMessage('next')
    }
    throw new MorError('INTERNAL', `${path}: the thread that reads the Parquet file ended`)
  } catch (error) {
    throwIfAborted(signal, 'reading the text')
    if ((error as NodeJS.ErrnoException).code !== 'ERR_WORKER_OUT_OF_MEMORY') throw error
    const advice = 'write it with smaller ones, or anew if it may be damaged'
    throw new MorError('OUT_OF_MEMORY', `${path}: there is not enough memory for its next row group: ${advice}`, {
      cause: error,
    })
  } finally {
    await worker.terminate()
  }
}
