// The running thresholds of expert choice (docs/model.md section 3) as they stand in the weights of a checkpoint folder.
import { open } from 'node:fs/promises'
import { readWeightFiles } from '../checkpoint_files.js'
import type { ResolvedConfig } from '../config.js'
import { MorError, toMorError } from '../errors.js'
import { tensorBytes } from '../safetensors.js'

const NAME = 'model.router.thresholds'

export function selectsByThreshold({ router }: ResolvedConfig): boolean {
  return router?.type === 'expert_choice' && router.selection === 'threshold'
}

/**
 * One for each recursion; null for a model that has none and for a source without weights, such as a preset.
 * @throws {MorError} CHECKPOINT_INVALID where the weights do not hold them as the configuration says
 */
export async function readThresholds(source: string, config: ResolvedConfig): Promise<number[] | null> {
  if (!selectsByThreshold(config)) return null
  const files = await readWeightFiles(source).catch((error: unknown) => {
    if (error instanceof MorError && error.code === 'CHECKPOINT_MISSING') return null
    throw error
  })
  if (files === null) return null
  const count = config.num_recursions
  for (const { path, tensors } of files) {
    const entry = tensors.find(({ name }) => name === NAME)
    if (entry === undefined) continue
    if (entry.dtype !== 'F32' || entry.bytes !== tensorBytes('F32', [count])) {
      const found = `${entry.dtype} [${entry.shape.join(', ')}]`
      throw new MorError('CHECKPOINT_INVALID', `${path}: ${NAME} is ${found}; the model needs F32 [${count}]`)
    }
    const file = await open(path, 'r')
    try {
      const { buffer } = await file.read({ buffer: Buffer.alloc(entry.bytes), position: entry.offset })
      return Array.from({ length: count }, (_, r) => buffer.readFloatLE(4 * r))
    } catch (error) {
      throw toMorError(error, path)
    } finally {
      await file.close()
    }
  }
  throw new MorError('CHECKPOINT_INVALID', `${source}: the weights hold no ${NAME}, which selection "threshold" needs`)
}
