// The files of a checkpoint folder: finds the weights (whole or sharded) and replaces files all or nothing.
import { existsSync, renameSync } from 'node:fs'
import { mkdir, mkdtemp, open, readdir, rm, rmdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { Checker, show } from './check.js'
import { readJsonFile } from './config_file.js'
import { MorError, toMorError } from './errors.js'
import { readSafetensorsFile, type SafetensorsFile } from './safetensors.js'

export const weightsFileName = 'model.safetensors'
const indexFileName = 'model.safetensors.index.json'

/**
 * The checked headers of `model.safetensors`, or of every shard that `model.safetensors.index.json` names.
 * @throws {MorError} CHECKPOINT_MISSING without weights or without a shard; CHECKPOINT_INVALID where index and shards
 * disagree.
 */
export async function readWeightFiles(folder: string): Promise<SafetensorsFile[]> {
  const single = join(folder, weightsFileName)
  if (existsSync(single)) return [await readSafetensorsFile(single)]
  const index = join(folder, indexFileName)
  if (existsSync(index)) return readShards(folder, index)
  const pickled = existsSync(join(folder, 'pytorch_model.bin'))
    ? '; pytorch_model.bin is not read: save the model as safetensors first'
    : ''
  throw new MorError('CHECKPOINT_MISSING', `no weights: neither ${single} nor ${indexFileName} is there${pickled}`)
}

async function readShards(folder: string, indexPath: string): Promise<SafetensorsFile[]> {
  const check = Checker.of(await readJsonFile(indexPath), indexPath, 'CHECKPOINT_INVALID')
  const weightMap = Checker.of(check.object.weight_map, `${indexPath}: weight_map`, 'CHECKPOINT_INVALID').object
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
  return Promise.all([...tensorsOfShard].map(([shard, tensors]) => readShard(join(folder, shard), tensors, indexPath)))
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

/**
 * Puts files into `folder`, all or none: `write` fills an empty folder beside them on the same disk, and once that has
 * succeeded its files are renamed into place in one go. If `write` fails (a full disk, say), what was there before is
 * untouched. Saves that run at the same time do not mix: the renames of one happen without a pause.
 */
export async function replaceFiles(folder: string, write: (staging: string) => Promise<void>): Promise<void> {
  let staging: string | undefined
  let created: string | undefined
  try {
    created = await mkdir(folder, { recursive: true })
    staging = await mkdtemp(join(folder, '.saving-'))
    await write(staging)
    for (const name of (await readdir(staging)).sort()) renameSync(join(staging, name), join(folder, name))
    await syncFolder(folder)
    created = undefined
  } catch (error) {
    throw toMorError(error)
  } finally {
    if (staging !== undefined) await rm(staging, { recursive: true, force: true })
    if (created !== undefined) await rmdir(folder).catch(() => undefined)
  }
}

/** Writes JSON and waits until it is on the disk. */
export async function writeJsonFile(path: string, content: unknown): Promise<void> {
  const file = await open(path, 'wx')
  try {
    await file.writeFile(`${JSON.stringify(content, null, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Makes renames durable. Windows has no such call and needs none. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
