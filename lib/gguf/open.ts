// Opens a GGUF file as a checkpoint: its configuration, and its tensors under the names of Hugging Face's files.
import { open } from 'node:fs/promises'
import { toMorError } from '../errors.js'
import type { OpenedCheckpoint } from '../opened_checkpoint.js'
import type { TensorEntry } from '../safetensors.js'
import { ggufConfig } from './config.js'
import { huggingFaceName, isInterleaved, ropeFactorsName } from './format.js'
import { fail, type GgufFile, type GgufTensor, readGguf } from './reader.js'
import { findGgufTokenizerFiles } from './tokenizer.js'

/** @throws {MorError} CHECKPOINT_INVALID, INVALID_CONFIG, IO_ERROR */
export async function openGguf(path: string): Promise<OpenedCheckpoint> {
  const file = await readGguf(path)
  const config = ggufConfig(file, await ropeFactors(file))
  const heads = { q: config.num_attention_heads, k: config.num_key_value_heads }
  const reorders = file.metadata.get('general.architecture') === 'llama'
  const tensors = file.tensors.flatMap((tensor): TensorEntry[] => {
    if (tensor.name === ropeFactorsName) return []
    const name = huggingFaceName(tensor.name)
    if (name === null) return [tensor] // It is reported as unexpected, under the name that it has.
    const projection = reorders ? isInterleaved(name) : null
    return [projection === null ? { ...tensor, name } : { ...tensor, name, interleavedHeads: heads[projection] }]
  })
  return {
    config,
    generation: {},
    files: [{ path, tensors, metadata: {} }],
    tokenizer: await findGgufTokenizerFiles(file),
    text: { folder: path, tokenizer: null, chatTemplate: null },
  }
}

async function ropeFactors(file: GgufFile): Promise<Float32Array | null> {
  const tensor = file.tensors.find(({ name }) => name === ropeFactorsName)
  if (tensor === undefined) return null
  if (tensor.dtype !== 'F32') fail(file.path, `whose ${ropeFactorsName} is ${tensor.dtype}; it must be F32`)
  return readFloats(file.path, tensor)
}

async function readFloats(path: string, { offset, bytes }: GgufTensor): Promise<Float32Array> {
  const file = await open(path, 'r').catch((error) => {
    throw toMorError(error)
  })
  try {
    const values = new Float32Array(bytes / 4)
    await file.read(new Uint8Array(values.buffer), 0, bytes, offset)
    return values
  } catch (error) {
    throw toMorError(error, path)
  } finally {
    await file.close()
  }
}
