// Runs in the thread of parquet.ts: reads the texts of a Parquet file, a row group when it is asked for one.
import { open } from 'node:fs/promises'
import { TextDecoder } from 'node:util'
import { parentPort, workerData } from 'node:worker_threads'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import type { AsyncBuffer, Compressors } from 'hyparquet'
import { MorError, toMorError } from '../errors.js'
import type { ParquetFile, ParquetReply } from './parquet.js'
import { checkPages } from './parquet_pages.js'

const port = parentPort!
const { path, textField } = workerData as ParquetFile
const groups = rowGroups()

port.on('message', async () => {
  try {
    const { value, done } = await groups.next()
    send({ texts: done ? null : value })
  } catch (error) {
    const { code, message } = toMorError(error)
    send({ error: message, code })
  }
})

function send(reply: ParquetReply): void {
  port.postMessage(reply)
}

/** The strings of the text column of each row group; rows without one are left out. */
async function* rowGroups(): AsyncGenerator<string[]> {
  const { cachedAsyncBuffer, parquetMetadataAsync, parquetReadObjects, parquetSchema } = await import('hyparquet')
  const { decompress } = await import('fzstd')
  const compressors: Compressors = {
    GZIP: (bytes) => gunzipSync(bytes),
    BROTLI: (bytes) => brotliDecompressSync(bytes),
    ZSTD: (bytes, length) => decompress(bytes, new Uint8Array(length)),
  }
  const handle = await open(path).catch((error: unknown) => {
    throw toMorError(error)
  })
  const damaged = (where: string, error: unknown) => {
    if (error instanceof MorError || (error as NodeJS.ErrnoException).syscall !== undefined)
      return toMorError(error, path)
    const reason = (error as Error).message
    return new MorError('INVALID_ARGUMENT', `${path} is a Parquet file that cannot be read${where}: ${reason}`, {
      cause: error,
    })
  }
  try {
    const { size } = await handle.stat()
    const file: AsyncBuffer = {
      byteLength: size,
      async slice(start, end = size) {
        const bytes = new Uint8Array(end - start)
        const { bytesRead } = await handle.read(bytes, 0, bytes.length, start)
        if (bytesRead < bytes.length) throw new Error(`it ends before byte ${end}`)
        return bytes.buffer
      },
    }
    const metadata = await parquetMetadataAsync(file).catch((error: unknown) => {
      throw damaged('', error)
    })
    const columns = parquetSchema(metadata).children.map(({ element }) => element.name)
    if (!columns.includes(textField)) {
      throw new MorError(
        'INVALID_ARGUMENT',
        `${path} has no column "${textField}": its columns are ${columns.slice(0, 20).join(', ')}${columns.length > 20 ? ', …' : ''}; name the one that holds the text (--text-field, textField)`,
      )
    }
    let row = 0
    for (const group of metadata.row_groups) {
      const end = row + Number(group.num_rows)
      // What is checked is what is read after it, from the file once.
      const once = cachedAsyncBuffer(file, { minSize: 0 })
      const options = { file: once, metadata, columns: [textField], rowStart: row, rowEnd: end, compressors, parsers }
      const rows = await checkPages(once, group, textField)
        .then(() => parquetReadObjects(options))
        .catch((error: unknown) => {
          throw damaged(` in rows ${row} to ${end - 1}`, error)
        })
      const texts: string[] = []
      for (const [i, { [textField]: text }] of rows.entries()) {
        if (typeof text === 'string') texts.push(text)
        // A null is null. There is no value where an index is beyond the dictionary, or a column has too few.
        else if (text === undefined) throw damaged(` in row ${row + i}`, new Error('it has no value'))
        else if (text !== null) {
          throw new MorError('INVALID_ARGUMENT', `${path}, row ${row + i} has no string under "${textField}"`)
        }
      }
      yield texts
      row = end
    }
  } finally {
    await handle.close()
  }
}

const parsers = { stringFromBytes }

function stringFromBytes(bytes: Uint8Array | undefined): string | undefined {
  if (bytes === undefined) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new Error('the text is not UTF-8; convert it')
  }
}
