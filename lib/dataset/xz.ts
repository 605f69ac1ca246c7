// Unpacks xz. The package is CommonJS whose names `import()` does not find, so this file, which needs it, is what is imported when the
// first archive comes.
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import { XzReadableStream } from 'xz-decompress'

/** Throws an Error for what is no xz, and for an archive that is damaged or cut short. */
export async function* unpackXz(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const source = Readable.toWeb(Readable.from(bytes)) as ReadableStream<Uint8Array>
  for await (const chunk of new XzReadableStream(source)) yield Buffer.from(chunk)
}
