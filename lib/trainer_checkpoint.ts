// A training checkpoint: a model folder with float32 weights, trainer.safetensors and trainer.json, saved as one.
// Must not know what the optimizer's tensors mean: the addon names them.
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { Checker, show } from './check.js'
import { type ExpectedTensor, locateTensors } from './checkpoint.js'
import { readWeightFiles, replaceFiles, weightsFileName, writeJsonFile } from './checkpoint_files.js'
import { configFileContent, configFileName, readJsonFile } from './config_file.js'
import { MorError, wrapNativeAsync } from './errors.js'
import type { ModelHandle } from './model_handle.js'
import type { DType, NativeTrainer } from './native.js'
import { buildSafetensorsHeader, readSafetensorsFile, type SafetensorsFile } from './safetensors.js'
import { type ResolvedTrainerOptions, resolveTrainerOptions } from './trainer_options.js'

const stateFileName = 'trainer.safetensors'
const jsonFileName = 'trainer.json'
const formatVersion = 1
/** A bfloat16 model's float32 weights, under this prefix in the addon, under their plain names in model.safetensors. */
const masterPrefix = 'master.'

export interface TrainerCheckpoint {
  folder: string
  dtype: DType
  options: ResolvedTrainerOptions
  step: number
  /** The addon's own state, opaque here. */
  native: string
  weights: SafetensorsFile[]
  state: SafetensorsFile
}

/** The files carry one random id, so that `resume` can tell a mixture of two saves. */
export async function saveTrainerCheckpoint(
  handle: ModelHandle,
  trainer: NativeTrainer,
  options: ResolvedTrainerOptions,
  folder: string,
): Promise<void> {
  const parameters = handle.native.parameters()
  const { names: tensors, step, json } = trainer.state()
  const saveId = randomUUID()
  const metadata = { save_id: saveId }
  const weightsHeader = buildSafetensorsHeader(
    parameters.map(({ name, shape }) => ({ name, shape, dtype: 'F32' })),
    metadata,
  )
  const masters = new Set(tensors.map(({ name }) => name).filter((name) => name.startsWith(masterPrefix)))
  const weights = parameters.map(({ name }) => (masters.has(masterPrefix + name) ? masterPrefix + name : name))
  const others = tensors.filter(({ name }) => !masters.has(name))
  await replaceFiles(folder, async (staging) => {
    const write = (file: string, header: Uint8Array, names: string[]) =>
      wrapNativeAsync(() => trainer.write(join(staging, file), header, names))
    await write(weightsFileName, weightsHeader, weights)
    await write(
      stateFileName,
      buildSafetensorsHeader(others, metadata),
      others.map(({ name }) => name),
    )
    await writeJsonFile(join(staging, configFileName), configFileContent(handle.config, 'float32'))
    await writeJsonFile(join(staging, jsonFileName), {
      format: formatVersion,
      save_id: saveId,
      dtype: handle.dtype,
      step,
      options,
      state: json,
    })
  })
}

/** @throws {MorError} CHECKPOINT_MISSING, CHECKPOINT_INVALID */
export async function readTrainerCheckpoint(folder: string): Promise<TrainerCheckpoint> {
  const path = join(folder, jsonFileName)
  const check = Checker.of(await readJsonFile(path), path, 'CHECKPOINT_INVALID')
  const { format, save_id: saveId, state: native, options } = check.object
  if (format !== formatVersion) check.fail(`format is ${show(format)}; this version reads ${formatVersion}`)
  if (typeof native !== 'string') check.fail(`state is ${show(native)}; it must be a string`)
  const weights = await readWeightFiles(folder)
  const state = await readStateFile(folder)
  for (const file of [...weights, state]) {
    if (file.metadata.save_id !== saveId) {
      throw new MorError(
        'CHECKPOINT_INVALID',
        `${file.path} has save_id ${show(file.metadata.save_id)} and ${path} has ${show(saveId)}: they are of different ` +
          'saves. Model.load can still read the weights',
      )
    }
  }
  return {
    folder,
    dtype: check.choice('dtype', ['bfloat16', 'float32']),
    options: resolveTrainerOptions(options),
    step: check.integer('step', { min: 0 }),
    native: native as string,
    weights,
    state,
  }
}

/** Puts the saved optimizer state into a fresh trainer of the loaded model. */
export async function restoreTrainerState(
  handle: ModelHandle,
  trainer: NativeTrainer,
  saved: TrainerCheckpoint,
): Promise<void> {
  const tensors = trainer.state().names
  const isMaster = ({ name }: ExpectedTensor) => name.startsWith(masterPrefix)
  const others = tensors.filter((tensor) => !isMaster(tensor))
  const masters = tensors.filter(isMaster).map(({ name, shape }) => ({
    name: name.slice(masterPrefix.length),
    shape,
    nativeName: name,
  }))
  const known = new Set(handle.native.parameters().map(({ name }) => name))
  const files = [
    ...locateTensors(others, [saved.state], saved.folder),
    ...locateTensors(masters, saved.weights, saved.folder, (name) => known.has(name)),
  ]
  await wrapNativeAsync(() => trainer.read(files, saved.native))
}

async function readStateFile(folder: string): Promise<SafetensorsFile> {
  const path = join(folder, stateFileName)
  try {
    return await readSafetensorsFile(path)
  } catch (error) {
    const missing = ((error as MorError).cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT'
    if (!missing) throw error
    throw new MorError('CHECKPOINT_MISSING', `${path} is missing: ${jsonFileName} is there, so it was lost`, {
      cause: error,
    })
  }
}
