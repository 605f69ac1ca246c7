// Writes routers for which a token's id decides how many recursions it runs, so that a bench knows the mean depth
// beforehand.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { weightsFileName } from '../../lib/checkpoint_files.js'
import { type CreateOptions, Model, type ModelConfig } from '../../lib/index.js'
import { readSafetensorsFile, type TensorEntry } from '../../lib/safetensors.js'
import { temporaryFolder } from '../lib/temporary_folder.js'

/** A magnitude similar to that of other elements of an embedding, and exact in bfloat16. */
const codeElement = 2 ** -6

/** Recursions that a token runs, 1..`recursions`: spread evenly over the ids. */
export function depthOf(token: number, recursions: number): number {
  return 1 + (token % recursions)
}

/**
 * A freshly initialised model whose tokens run `depthOf` recursions each. N - 1 hidden dimensions encode a token's depth by
 * their signs: dimension i is positive if the depth is above i + 1. It alone is the score of recursion i + 2, which a token
 * runs if the score is at least 0 (every token runs the first recursion). No layer adds to these dimensions, and gates are
 * positive, so the signs never change. The final norm removes these dimensions, so that the depth of a token does not
 * influence which tokens follow it.
 * @param config expert-choice with a linear router and default capacities.
 * @throws {RangeError} for another router.
 */
export async function createWithDepthsById(config: ModelConfig, { seed, ...load }: CreateOptions): Promise<Model> {
  using folder = temporaryFolder('mor-depths-')
  await using fresh = await Model.create(config, { seed, ...load })
  const { num_recursions: recursions, router } = fresh.config
  const fits = router?.type === 'expert_choice' && router.architecture === 'linear' && !router.auxiliary_router
  if (!fits || router.capacities !== null)
    throw new RangeError(`no depths by id with the router ${JSON.stringify(router)}`)
  await fresh.save(folder.path)
  await writeDepthCode(join(folder.path, weightsFileName), recursions)
  return await Model.load(folder.path, load)
}

async function writeDepthCode(path: string, recursions: number): Promise<void> {
  const { tensors } = await readSafetensorsFile(path)
  const data = await readFile(path)
  for (const tensor of tensors) {
    const patch = patchOf(tensor, recursions)
    if (patch !== null) apply(patch, tensor, data)
  }
  await writeFile(path, data)
}

/** New values of the first rows and columns of a tensor; a vector is one row. */
interface Patch {
  rows: number
  columns: number
  value: (row: number, column: number) => number
}

function patchOf({ name, shape }: TensorEntry, recursions: number): Patch | null {
  const [rows, columns] = shape.length === 1 ? [1, shape[0]!] : [shape[0]!, shape[1]!]
  const code = recursions - 1
  if (name === 'model.embed_tokens.weight') {
    const value = (token: number, i: number): number =>
      depthOf(token, recursions) > i + 1 ? codeElement : -codeElement
    return { rows, columns: code, value }
  }
  if (name === 'model.norm.weight') return { rows, columns: code, value: () => 0 }
  if (/\.(o_proj|down_proj)\.weight$/.test(name)) return { rows: code, columns, value: () => 0 }
  const router = /^model\.routers\.(\d+)\.weight$/.exec(name)
  if (router === null || router[1] === '0') return null
  return { rows, columns, value: (_, column) => (column === Number(router[1]) - 1 ? 1 : 0) }
}

/** The values of F32 data, or of BF16 data, which is the upper half of F32. */
function apply({ rows, columns, value }: Patch, { shape, offset, bytes }: TensorEntry, data: Buffer): void {
  const width = shape.at(-1)!
  const size = bytes / shape.reduce((product, extent) => product * extent)
  const element = Buffer.alloc(4)
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      element.writeFloatLE(value(row, column))
      element.copy(data, offset + (row * width + column) * size, 4 - size)
    }
}
