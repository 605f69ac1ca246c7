// The files of a checkpoint folder: finds the weights, whole or sharded, and makes JSON files.
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Checker, type JsonObject, show } from './check.js'
import { MorError } from './errors.js'
import { readJsonFile } from './json_file.js'
import { mapInOrder } from './map_in_order.js'
import type { NativeSavedFile } from './native/files.js'
import { readSafetensorsFile, type SafetensorsFile } from './safetensors.js'
import type { TokenizerFile } from './tokenizer/interface.js'

export const weightsFileName = 'model.safetensors'
const indexFileName = 'model.safetensors.index.json'

/**
 * The checked headers of `model.safetensors`, or of every shard that `model.safetensors.index.json` names.
 * @throws {MorError} CHECKPOINT_MISSING without weights or without a shard; CHECKPOINT_INVALID where index and shards
 * disagree.
 */
export async function readWeightFiles(folder: string): Promise<SafetensorsFile[]> {
  const single = join(folder, weightsFileName)
  const index = join(folder, indexFileName)
  if (existsSync(single)) {
    if (existsSync(index)) await warnOfShards(folder, index)
    return [await readSafetensorsFile(single)]
  }
  if (existsSync(index)) return readShards(folder, index)
  const pickled = existsSync(join(folder, 'pytorch_model.bin'))
    ? '; pytorch_model.bin is not read: save the model as safetensors first'
    : ''
  throw new MorError('CHECKPOINT_MISSING', `no weights: neither ${single} nor ${indexFileName} is there${pickled}`)
}

/** Other programs may read the shards of an index beside model.safetensors. */
async function warnOfShards(folder: string, indexPath: string): Promise<void> {
  const shards = Object.values(await readWeightMap(indexPath)).filter((shard) => shard !== weightsFileName)
  if (shards.length === 0) return
  const check = new Checker({}, folder)
  check.warn(
    `it holds ${weightsFileName}, which counts, and ${indexFileName}, which names ${show(shards[0])}: remove one of them`,
  )
}

async function readWeightMap(indexPath: string): Promise<JsonObject> {
  const check = Checker.of(await readJsonFile(indexPath), indexPath, 'CHECKPOINT_INVALID')
  return Checker.of(check.object.weight_map, `${indexPath}: weight_map`, 'CHECKPOINT_INVALID').object
}

async function readShards(folder: string, indexPath: string): Promise<SafetensorsFile[]> {
  const weightMap = await readWeightMap(indexPath)
  const tensorsOfShard = new Map<string, Set<string>>()
  for (const [tensor, shard] of Object.entries(weightMap)) {
    if (!isFileName(shard)) {
      throw new MorError(
        'CHECKPOINT_INVALID',
        `${indexPath}: weight_map["${tensor}"] is ${show(shard)}; it must be the name of a file in the same folder`,
      )
    }
    const tensors = tensorsOfShard.get(shard) ?? new Set()
    tensorsOfShard.set(shard, tensors.add(tensor))
  }
  const missing = [...tensorsOfShard.keys()].filter((shard) => !existsSync(join(folder, shard)))
  if (missing.length > 0) {
    throw new MorError(
      'CHECKPOINT_MISSING',
      `${missing.length} of ${tensorsOfShard.size} shards missing in ${folder}: ${missing.join(', ')}`,
    )
  }
  return mapInOrder(tensorsOfShard, ([shard, tensors]) => readShard(join(folder, shard), tensors, indexPath))
}

function isFileName(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value === basename(value)
}

async function readShard(path: string, expected: Set<string>, indexPath: string): Promise<SafetensorsFile> {
  const file = await readSafetensorsFile(path)
  const found = new Set(file.tensors.map((tensor) => tensor.name))
  for (const name of expected) {
    if (!found.has(name))
      throw new MorError('CHECKPOINT_INVALID', `${indexPath} puts "${name}" into ${path}; it is not there`)
  }
  for (const name of found) {
    if (!expected.has(name))
      throw new MorError('CHECKPOINT_INVALID', `${path} holds "${name}", which ${indexPath} puts elsewhere`)
  }
  return file
}

/** What there is of a tokenizer, to be saved with the weights. */
export function tokenizerFilesBeside(files: readonly TokenizerFile[]): NativeSavedFile[] {
  return files.flatMap(({ name, content }) =>
    content === null
      ? []
      : [{ name, head: [typeof content === 'string' ? Buffer.from(content) : content], tensors: [] }],
  )
}

/** model.safetensors, to be saved in place of what was there, sharded weights too. */
export function weightsFile(head: Uint8Array[], tensors: NativeSavedFile['tensors']): NativeSavedFile {
  return { name: weightsFileName, head, tensors, replaces: indexFileName }
}

/**
 * A JSON file to save.
 * @param gaps what to cut out of the text: there the addon puts the number of optimizer steps done.
 */
export function jsonFile(name: string, content: unknown, gaps?: RegExp): NativeSavedFile {
  const text = `${JSON.stringify(content, null, 2)}\n`
  const pieces = gaps === undefined ? [text] : text.split(gaps)
  return { name, head: pieces.map((piece) => Buffer.from(piece)), tensors: [] }
}
