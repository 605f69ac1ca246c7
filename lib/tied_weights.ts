// Compares an output projection that a checkpoint holds with the embedding, where its configuration says that both are one.
import { type FileHandle, open } from 'node:fs/promises'
import { MorError, throwIfAborted, toMorError } from './errors.js'
import type { SafetensorsFile, TensorEntry } from './safetensors.js'

export const embeddingName = 'model.embed_tokens.weight'
export const outputProjectionName = 'lm_head.weight'

const CHUNK_BYTES = 2 ** 22

interface StoredTensor extends TensorEntry {
  path: string
}

/**
 * Fails for an output projection that is not the embedding; a copy of the embedding, or none, is fine.
 * @throws {MorError} CHECKPOINT_INVALID, IO_ERROR, ABORTED
 */
export async function checkTiedWeights(
  files: readonly SafetensorsFile[],
  folder: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const stored = files.flatMap(({ path, tensors }) => tensors.map((tensor): StoredTensor => ({ ...tensor, path })))
  const embedding = stored.find(({ name }) => name === embeddingName)
  const projection = stored.find(({ name }) => name === outputProjectionName)
  if (embedding === undefined || projection === undefined) return
  if (await areEqual(embedding, projection, folder, signal)) return
  throw new MorError(
    'CHECKPOINT_INVALID',
    `${folder}: by its config.json tie_word_embeddings is true, but ${outputProjectionName} differs from ${embeddingName}: set ` +
      `tie_word_embeddings to false, or remove ${outputProjectionName} if the embedding is the output projection`,
  )
}

async function areEqual(
  one: StoredTensor,
  other: StoredTensor,
  folder: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (one.dtype !== other.dtype || one.shape.join() !== other.shape.join()) return false
  const handles: FileHandle[] = []
  try {
    for (const { path } of [one, other]) handles.push(await open(path, 'r'))
    const buffers = handles.map(() => Buffer.alloc(Math.min(CHUNK_BYTES, one.bytes)))
    for (let done = 0; done < one.bytes; done += CHUNK_BYTES) {
      throwIfAborted(signal, `loading ${folder}`)
      const length = Math.min(CHUNK_BYTES, one.bytes - done)
      const [a, b] = await Promise.all(
        [one, other].map(async ({ path, offset }, i) => {
          const { bytesRead } = await handles[i]!.read(buffers[i]!, 0, length, offset + done).catch(
            (error: unknown) => {
              throw toMorError(error, path)
            },
          )
          return buffers[i]!.subarray(0, bytesRead)
        }),
      )
      if (!a!.equals(b!)) return false
    }
    return true
  } catch (error) {
    throw toMorError(error)
  } finally {
    for (const handle of handles) await handle.close()
  }
}
