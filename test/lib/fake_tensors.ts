// The tensors of the stand-in addon: which there are, and real files to read and write them.
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { NativeConfig } from '../../lib/native/config.js'
import type { NativeReadFile, NativeSavedFile } from '../../lib/native/files.js'
import type { DType, NativeParameter } from '../../lib/native/model.js'

/** What steps adjust without gradients. It is float32 in every model. */
export const adjustedTensors = ['model.router.balancing_bias', 'model.router.thresholds']

export type Tensor = { name: string; shape: number[]; values: Float32Array }

export function nativeError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code })
}

/** The tensors of docs/model.md section 9 for linear routers, tied embedding. */
export function tensorTable(config: NativeConfig): Tensor[] {
  const { hiddenSize: d, intermediateSize: f, headDim, numRecursions, router } = config
  const [query, keyValue] = [config.numAttentionHeads * headDim, config.numKeyValueHeads * headDim]
  const unshared = config.sharing.startsWith('middle') ? 2 : 0
  const unique = (config.numHiddenLayers - unshared) / numRecursions + unshared
  const shapes: [string, number[]][] = [['model.embed_tokens.weight', [config.vocabSize, d]]]
  for (let u = 0; u < unique; u++) {
    const layer = `model.layers.${u}`
    if (config.qkvBias) {
      shapes.push(
        [`${layer}.self_attn.q_proj.bias`, [query]],
        [`${layer}.self_attn.k_proj.bias`, [keyValue]],
        [`${layer}.self_attn.v_proj.bias`, [keyValue]],
      )
    }
    if (config.qkNorm) {
      shapes.push([`${layer}.self_attn.q_norm.weight`, [headDim]], [`${layer}.self_attn.k_norm.weight`, [headDim]])
    }
    shapes.push(
      [`${layer}.input_layernorm.weight`, [d]],
      [`${layer}.self_attn.q_proj.weight`, [query, d]],
      [`${layer}.self_attn.k_proj.weight`, [keyValue, d]],
      [`${layer}.self_attn.v_proj.weight`, [keyValue, d]],
      [`${layer}.self_attn.o_proj.weight`, [d, query]],
      [`${layer}.post_attention_layernorm.weight`, [d]],
      [`${layer}.mlp.gate_proj.weight`, [f, d]],
      [`${layer}.mlp.up_proj.weight`, [f, d]],
      [`${layer}.mlp.down_proj.weight`, [d, f]],
    )
  }
  shapes.push(['model.norm.weight', [d]])
  if (!config.tieWordEmbeddings) shapes.push(['lm_head.weight', [config.vocabSize, d]])
  if (router?.type === 'expert_choice') {
    for (let r = 0; r < numRecursions; r++) shapes.push([`model.routers.${r}.weight`, [1, d]])
  } else if (router !== null) shapes.push(['model.router.weight', [numRecursions, d]])
  if (router?.balancing === 'loss_free') shapes.push(['model.router.balancing_bias', [numRecursions]])
  if (router?.selection === 'threshold') shapes.push(['model.router.thresholds', [numRecursions]])
  return shapes.map(([name, shape]) => {
    return { name, shape, values: new Float32Array(shape.reduce((product, extent) => product * extent, 1)) }
  })
}

/** What the addon's parameterTable says of them. */
export function parameterTable(config: NativeConfig, dtype: DType): NativeParameter[] {
  return tensorTable(config).map(({ name, shape, values }) => {
    const role = roles.find(([pattern]) => pattern.test(name))![1]
    const layer = /layers\.(\d+)\./.exec(name)?.[1]
    const wide = dtype === 'float32' || adjustedTensors.includes(name)
    return {
      name,
      shape,
      role,
      layer: layer === undefined ? null : Number(layer),
      dtype: wide ? 'F32' : 'BF16',
      bytes: values.length * (wide ? 4 : 2),
      decays: role !== 'norm' && role !== 'bias',
      trained: !adjustedTensors.includes(name),
    }
  })
}

const roles: [RegExp, NativeParameter['role']][] = [
  [/embed_tokens/, 'embedding'],
  [/norm/, 'norm'],
  [/bias|thresholds/, 'bias'],
  [/router/, 'router'],
  [/proj|lm_head/, 'projection'],
]

export function readInto(
  files: NativeReadFile[],
  target: (name: string) => Float32Array,
  round: (value: number, name: string) => number,
): void {
  for (const { path, tensors } of files) {
    const file = openSync(path, 'r')
    for (const { name, dtype, offset, bytes } of tensors) {
      const buffer = Buffer.alloc(bytes)
      if (readSync(file, buffer, 0, bytes, offset) !== bytes) throw nativeError('IO_ERROR', `${path} ended early`)
      const values = target(name)
      const size = dtype === 'F32' ? 4 : 2
      if (values.length * size !== bytes) throw nativeError('CHECKPOINT_INVALID', `${name} has ${bytes} bytes`)
      values.forEach((_, i) => {
        values[i] = round(dtype === 'F32' ? buffer.readFloatLE(i * 4) : bf16ToNumber(buffer.readUInt16LE(i * 2)), name)
      })
    }
    closeSync(file)
  }
}

type Writing = { nextWriteError: Error | null; valuesOf(name: string): Float32Array; stepsDone: number }

/** All files or none. */
export function saveFiles(folder: string, files: NativeSavedFile[], writing: Writing): void {
  const made = mkdirSync(folder, { recursive: true }) !== undefined
  const staging = mkdtempSync(join(folder, '.saving-'))
  try {
    for (const file of files) writeFile(join(staging, file.name), file, writing)
    for (const { name } of files) renameSync(join(staging, name), join(folder, name))
    rmdirSync(staging)
    for (const { replaces } of files) if (replaces !== undefined) removeIndexed(folder, replaces, files)
  } catch (error) {
    rmSync(staging, { recursive: true })
    if (made) rmdirSync(folder)
    throw error
  }
}

/** Removes an index of shards and the shards. */
function removeIndexed(folder: string, index: string, files: NativeSavedFile[]): void {
  const path = join(folder, index)
  if (!existsSync(path)) return
  const { weight_map } = JSON.parse(readFileSync(path, 'utf8')) as { weight_map: Record<string, string> }
  const shards = new Set(Object.values(weight_map).filter((shard) => files.every(({ name }) => name !== shard)))
  for (const shard of shards) rmSync(join(folder, shard), { force: true })
  rmSync(path)
}

/** Writes half of the tensors before a failure, as a disk that fills up does. */
function writeFile(path: string, { head, tensors }: NativeSavedFile, writing: Writing): void {
  const file = openSync(path, 'wx')
  try {
    const pieces = head.map((piece) => Buffer.from(piece).toString('latin1'))
    writeSync(file, Buffer.from(pieces.join(String(writing.stepsDone)), 'latin1'))
    tensors.forEach(({ name, dtype }, index) => {
      if (writing.nextWriteError !== null && index >= tensors.length / 2) throw writing.nextWriteError
      const values = writing.valuesOf(name)
      if (dtype === 'F32') writeSync(file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
      else writeSync(file, new Uint8Array(Uint16Array.from(values, numberToBf16).buffer))
    })
  } finally {
    closeSync(file)
  }
}

/** The upper half of a float32, rounded to nearest, ties to even. */
export function numberToBf16(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

export function bf16ToNumber(bits: number): number {
  return new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!
}
