// Reads ranges of token ids from the shards of one split by position, so that memory does not grow with the dataset.
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { MorError, toMorError } from '../errors.js'
import { bytesPerId, type DatasetInfo, type SplitName } from './format.js'

interface Shard {
  path: string
  file: FileHandle
  /** Position in the split of the shard's first token, and of the first token after it. */
  start: number
  end: number
}

export class TokenReader {
  readonly tokens: number
  readonly #shards: Shard[]
  readonly #bytesPerId: 2 | 4
  readonly #vocabSize: number

  private constructor(shards: Shard[], info: DatasetInfo) {
    this.tokens = shards.at(-1)?.end ?? 0
    this.#shards = shards
    this.#bytesPerId = bytesPerId(info.dtype)
    this.#vocabSize = info.tokenizer.vocab_size
  }

  /** Opens the shards of a split; `info` must come from `readDatasetInfo`. Throws `IO_ERROR` if one cannot be opened. */
  static async open(folder: string, info: DatasetInfo, split: SplitName): Promise<TokenReader> {
    const shards: Shard[] = []
    try {
      for (const { file, tokens } of info.splits[split].shards) {
        const path = join(folder, file)
        const start = shards.at(-1)?.end ?? 0
        shards.push({ path, file: await open(path, 'r'), start, end: start + tokens })
      }
    } catch (error) {
      await Promise.all(shards.map((shard) => shard.file.close()))
      throw toMorError(error)
    }
    return new TokenReader(shards, info)
  }

  /**
   * Ids [start, start + count) of the split, across shards. The range must lie within `tokens`.
   * Throws `IO_ERROR` for a shard that has become shorter, or holds an id outside the vocabulary.
   */
  async read(start: number, count: number): Promise<Int32Array> {
    const ids = new Int32Array(count)
    let index = this.#shardAt(start)
    for (let done = 0; done < count; index++) {
      const shard = this.#shards[index]!
      const from = start + done - shard.start
      const part = ids.subarray(done, Math.min(count, shard.end - start))
      await this.#readPart(shard, from, part)
      done += part.length
    }
    return ids
  }

  async close(): Promise<void> {
    await Promise.all(this.#shards.map((shard) => shard.file.close()))
  }

  #shardAt(position: number): number {
    let low = 0
    let high = this.#shards.length - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#shards[middle]!.end <= position) low = middle + 1
      else high = middle
    }
    return low
  }

  async #readPart(shard: Shard, from: number, into: Int32Array): Promise<void> {
    const raw = this.#bytesPerId === 2 ? new Uint16Array(into.length) : new Uint32Array(into.length)
    const bytes = new Uint8Array(raw.buffer)
    for (let read = 0; read < bytes.length; ) {
      const { bytesRead } = await shard.file
        .read(bytes, read, bytes.length - read, from * this.#bytesPerId + read)
        .catch((error: unknown) => {
          throw toMorError(error, shard.path)
        })
      if (bytesRead === 0) {
        throw new MorError(
          'IO_ERROR',
          `shard ${shard.path} ends before token ${from + into.length}, though it held ${shard.end - shard.start}`,
        )
      }
      read += bytesRead
    }
    const wrong = raw.findIndex((id) => id >= this.#vocabSize)
    if (wrong >= 0) {
      throw new MorError(
        'IO_ERROR',
        `shard ${shard.path} is damaged: token ${from + wrong} is ${raw[wrong]}, the vocabulary has ${this.#vocabSize}`,
      )
    }
    into.set(raw)
  }
}
