// Unpacks xz. The package is CommonJS whose names `import()` does not find, so this file, which needs it, is what is imported when the
// first archive comes.
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import { XzReadableStream } from 'xz-decompress'

/** The failures of the library, which names them by the numbers of XZ Embedded. */
const failures: Record<string, string> = {
  4: 'it needs more memory than those of xz -9: unpack it first',
  5: 'it does not begin as xz does',
  6: 'it uses options of xz that are not supported: unpack it first',
  7: 'its data are damaged',
  8: 'it ends too early',
}

/** Throws an Error for what is no xz, and for an archive that is damaged or cut short. */
export async function* unpackXz(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const source = Readable.toWeb(Readable.from(bytes)) as ReadableStream<Uint8Array>
  try {
    for await (const chunk of new XzReadableStream(source)) yield Buffer.from(chunk)
  } catch (error) {
    // Of an empty file the library reads a chunk that is not there.
    const [, code = error instanceof TypeError ? '8' : ''] = /error code (\d+)$/.exec((error as Error).message) ?? []
    throw failures[code] === undefined ? error : new Error(failures[code], { cause: error })
  }
}
