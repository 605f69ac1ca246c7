// Writes a stream of token ids as shard files.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, open, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { MorError, toMorError } from '../errors.js'
import { bytesPerId, type DatasetInfo, type DatasetSplit, type SplitName } from './format.js'

const BUFFERED_IDS = 1 << 20

/** Appends ids to `<split>-00000.bin`, `<split>-00001.bin`, … of at most `shardTokens` ids each. Errors of writing name the shard. */
export class ShardWriter {
  readonly split: DatasetSplit
  readonly #folder: string
  readonly #name: SplitName
  readonly #shardTokens: number
  readonly #buffer: Uint16Array | Uint32Array
  #buffered = 0
  #file: FileHandle | null = null
  #hash = createHash('sha256')

  constructor(
    folder: string,
    name: SplitName,
    dtype: DatasetInfo['dtype'],
    shardTokens: number,
    split: DatasetSplit = { tokens: 0, bytes: 0, documents: 0, shards: [] },
  ) {
    this.split = split
    this.#folder = folder
    this.#name = name
    this.#shardTokens = shardTokens
    const capacity = Math.min(BUFFERED_IDS, shardTokens)
    this.#buffer = bytesPerId(dtype) === 2 ? new Uint16Array(capacity) : new Uint32Array(capacity)
  }

  /** Opens the last shard of the split that the writer was given, and takes off what was written to it later. Call it first. */
  async goOn(): Promise<void> {
    const shard = this.split.shards.at(-1)
    if (shard === undefined) return
    const path = join(this.#folder, shard.file)
    const bytes = shard.tokens * this.#buffer.BYTES_PER_ELEMENT
    const { size } = await stat(path)
    if (size < bytes) {
      throw new MorError('IO_ERROR', `shard ${path} is truncated: ${size} bytes, not ${bytes}; delete its folder`)
    }
    await truncate(path, bytes)
    for await (const chunk of createReadStream(path)) this.#hash.update(chunk)
    this.#file = await open(path, 'a')
  }

  async append(ids: Int32Array): Promise<void> {
    for (let start = 0; start < ids.length; ) {
      const shard = this.split.shards.at(-1)
      const room = shard ? this.#shardTokens - shard.tokens - this.#buffered : 0
      if (room === 0) {
        await this.#nextShard()
        continue
      }
      const part = ids.subarray(start, start + Math.min(room, this.#buffer.length - this.#buffered))
      this.#buffer.set(part, this.#buffered)
      this.#buffered += part.length
      start += part.length
      if (this.#buffered === this.#buffer.length) await this.#flush()
    }
  }

  /** Puts all ids on disk. */
  async sync(): Promise<void> {
    await this.#flush()
    await this.#onDisk((file) => file.sync())
  }

  /** Ends the last shard and puts it on disk. Called once, also after an error. */
  async close(): Promise<void> {
    try {
      await this.sync()
      const shard = this.split.shards.at(-1)
      if (shard !== undefined) shard.sha256 = this.#hash.digest('hex')
    } finally {
      await this.#file?.close()
      this.#file = null
    }
  }

  async #nextShard(): Promise<void> {
    await this.close()
    this.#hash = createHash('sha256')
    const file = `${this.#name}-${String(this.split.shards.length).padStart(5, '0')}.bin`
    this.#file = await open(join(this.#folder, file), 'w')
    this.split.shards.push({ file, tokens: 0, sha256: '' })
  }

  async #flush(): Promise<void> {
    const ids = this.#buffer.subarray(0, this.#buffered)
    this.#buffered = 0
    if (ids.length === 0) return
    const bytes = new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength)
    await this.#onDisk((file) => file.writeFile(bytes))
    this.#hash.update(bytes)
    this.split.shards.at(-1)!.tokens += ids.length
    this.split.tokens += ids.length
  }

  /** What `work` does to the file of the last shard, if it is open. */
  async #onDisk(work: (file: FileHandle) => Promise<void>): Promise<void> {
    if (this.#file === null) return
    await work(this.#file).catch((error: unknown) => {
      throw toMorError(error, join(this.#folder, this.split.shards.at(-1)!.file))
    })
  }
}
