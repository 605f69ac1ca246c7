// Writes a stream of token ids as shard files.
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { bytesPerId, type DatasetInfo, type DatasetSplit, type SplitName } from './format.js'

const BUFFERED_IDS = 1 << 20

/** Appends ids to `<split>-00000.bin`, `<split>-00001.bin`, … of at most `shardTokens` ids each. Errors are the file system's. */
export class ShardWriter {
  readonly split: DatasetSplit = { tokens: 0, bytes: 0, documents: 0, shards: [] }
  readonly #folder: string
  readonly #name: SplitName
  readonly #shardTokens: number
  readonly #buffer: Uint16Array | Uint32Array
  #buffered = 0
  #file: FileHandle | null = null

  constructor(folder: string, name: SplitName, dtype: DatasetInfo['dtype'], shardTokens: number) {
    this.#folder = folder
    this.#name = name
    this.#shardTokens = shardTokens
    const capacity = Math.min(BUFFERED_IDS, shardTokens)
    this.#buffer = bytesPerId(dtype) === 2 ? new Uint16Array(capacity) : new Uint32Array(capacity)
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

  /** Ends the last shard and puts it on disk. Called once, also after an error. */
  async close(): Promise<void> {
    try {
      await this.#flush()
      await this.#file?.sync()
    } finally {
      await this.#file?.close()
      this.#file = null
    }
  }

  async #nextShard(): Promise<void> {
    await this.close()
    const file = `${this.#name}-${String(this.split.shards.length).padStart(5, '0')}.bin`
    this.#file = await open(join(this.#folder, file), 'w')
    this.split.shards.push({ file, tokens: 0 })
  }

  async #flush(): Promise<void> {
    const ids = this.#buffer.subarray(0, this.#buffered)
    this.#buffered = 0
    if (ids.length === 0) return
    await this.#file!.writeFile(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength))
    this.split.shards.at(-1)!.tokens += ids.length
    this.split.tokens += ids.length
  }
}
