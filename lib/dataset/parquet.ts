// Reads the texts of a Parquet file, a row group at a time.
import { open } from 'node:fs/promises'
import { TextDecoder } from 'node:util'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import type { AsyncBuffer } from 'hyparquet'
import { MorError, throwIfAborted, toMorError } from '../errors.js'

/**
 * The strings of the column `textField` in order; rows without one are left out. Memory holds the texts of one row group.
 * Throws `INVALID_ARGUMENT` for a damaged file and for text that is not UTF-8, naming the rows, and for another column;
 * `IO_ERROR` for what cannot be read.
 */
export async function* parquetTexts(
  path: string,
  textField: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<string> {
  const { parquetMetadataAsync, parquetReadObjects, parquetSchema } = await import('hyparquet')
  const { decompress } = await import('fzstd')
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
      throwIfAborted(signal, 'reading the text')
      const end = row + Number(group.num_rows)
      const rows = await parquetReadObjects({
        file,
        metadata,
        columns: [textField],
        rowStart: row,
        rowEnd: end,
        compressors: {
          GZIP: (bytes) => gunzipSync(bytes),
          BROTLI: (bytes) => brotliDecompressSync(bytes),
          ZSTD: (bytes, length) => decompress(bytes, new Uint8Array(length)),
        },
        parsers: { stringFromBytes },
      }).catch((error: unknown) => {
        throw damaged(` in rows ${row} to ${end - 1}`, error)
      })
      for (const [i, { [textField]: text }] of rows.entries()) {
        if (typeof text === 'string') yield text
        // A null is null. There is no value where an index is beyond the dictionary, or a column has too few.
        else if (text === undefined) throw damaged(` in row ${row + i}`, new Error('it has no value'))
        else if (text !== null) {
          throw new MorError('INVALID_ARGUMENT', `${path}, row ${row + i} has no string under "${textField}"`)
        }
      }
      row = end
    }
  } finally {
    await handle.close()
  }
}

function stringFromBytes(bytes: Uint8Array | undefined): string | undefined {
  if (bytes === undefined) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new Error('the text is not UTF-8; convert it')
  }
}
