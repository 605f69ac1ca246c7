// Unpacks gzip: one member or several, and zero bytes behind the last one.
import { pipeline, Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'

/** Unpacked bytes of one chunk. */
const CHUNK_BYTES = 1 << 16

/** Throws what zlib finds wrong, and an error for anything but zeros where Node takes zeros to end the archive. */
export async function* unpackGzip(bytes: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  let read = 0
  let endOfData = 0
  /** Does not close `bytes` when it is closed itself: they are read to their end below. */
  async function* noted(): AsyncGenerator<Buffer> {
    for (let next = await bytes.next(); !next.done; next = await bytes.next()) {
      const chunk = next.value
      const last = chunk.findLastIndex((byte) => byte !== 0)
      if (last >= 0) endOfData = read + last + 1
      read += chunk.length
      yield chunk
    }
  }
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES })
  // Reading gunzip throws what fails.
  pipeline(Readable.from(noted()), gunzip, () => {})
  yield* gunzip
  // Archives may be padded with zeros (on tapes, for one). A member that follows them would be lost, which is no error to Node.
  for await (const _ of noted());
  if (endOfData > gunzip.bytesWritten) {
    throw new Error(`there is data after the zero bytes that end the archive at byte ${gunzip.bytesWritten}`)
  }
}
