// A training checkpoint: a model folder with float32 weights, trainer.safetensors and trainer.json, saved as one. The addon
// names the optimizer's tensors.
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { Checker, show } from './check.js'
import { configFiles, type ExpectedTensor, locateTensors } from './checkpoint.js'
import { jsonFile, readWeightFiles, tokenizerFilesBeside, weightsFile } from './checkpoint_files.js'
import { checkFolder } from './config_file.js'
import { MorError } from './errors.js'
import { parseJson, readJsonFile } from './json_file.js'
import type { Model } from './model.js'
import type { DType } from './native/model.js'
import type { NativeTrainer } from './native/trainer.js'
import { openCheckpoint } from './open_checkpoint.js'
import { buildSafetensorsHeader, readSafetensorsFile, type SafetensorsFile } from './safetensors.js'
import type { TokenizerFile } from './tokenizer/interface.js'
import { type ResolvedTrainerOptions, resolveTrainerOptions } from './trainer_options.js'
import { finishSave } from './unfinished_save.js'

const stateFileName = 'trainer.safetensors'
export const trainerFileName = 'trainer.json'
const formatVersion = 1
/** A bfloat16 model's float32 weights, under this prefix in the addon, under their plain names in model.safetensors. */
const masterPrefix = 'master.'

/** Stands in trainer.json for the number of steps done, which only the addon knows when it writes the file. */
const stepsDone = '<steps done>'
const stepsDoneGaps = new RegExp(`"${stepsDone}"|${stepsDone}`)

export interface TrainerCheckpoint {
  folder: string
  /** A random one of each save. */
  saveId: unknown
  dtype: DType
  options: ResolvedTrainerOptions
  stepsDone: number
  weights: SafetensorsFile[]
  state: SafetensorsFile
}

/**
 * The files carry one random id, so that `resume` can tell a mixture of two saves.
 * @param tokenizer the files of it
 */
export function saveTrainerCheckpoint(
  model: Model,
  trainer: NativeTrainer,
  options: ResolvedTrainerOptions,
  folder: string,
  tokenizer: readonly TokenizerFile[],
): Promise<void> {
  const saveId = randomUUID()
  const state = trainer.tensors().map((tensor) => ({ ...tensor, dtype: 'F32' as const }))
  const names = new Set(state.map(({ name }) => name))
  const weights = model.native.parameters().map(({ name, shape }) => ({
    name,
    shape,
    dtype: 'F32' as const,
    source: names.has(masterPrefix + name) ? masterPrefix + name : name,
  }))
  const others = state.filter(({ name }) => !name.startsWith(masterPrefix)).map((t) => ({ ...t, source: t.name }))
  const headOf = (tensors: typeof weights) => [buildSafetensorsHeader(tensors, { save_id: saveId })]
  const partsOf = (tensors: typeof weights) => tensors.map(({ source, dtype }) => ({ name: source, dtype }))
  return trainer.save(folder, [
    ...configFiles(model, 'float32'),
    ...tokenizerFilesBeside(tokenizer),
    weightsFile(headOf(weights), partsOf(weights)),
    { name: stateFileName, head: headOf(others), tensors: partsOf(others) },
    jsonFile(
      trainerFileName,
      {
        format: formatVersion,
        save_id: saveId,
        dtype: model.dtype,
        step: stepsDone,
        options,
        state: `{"step":${stepsDone}}`,
      },
      stepsDoneGaps,
    ),
  ])
}

/** @throws {MorError} CHECKPOINT_MISSING, CHECKPOINT_INVALID */
export async function readTrainerCheckpoint(folder: string): Promise<TrainerCheckpoint> {
  await checkFolder(folder)
  await finishSave(folder)
  const path = join(folder, trainerFileName)
  const check = Checker.of(await readJsonFile(path), path, 'CHECKPOINT_INVALID')
  const { format, save_id: saveId, state: stateText, options } = check.object
  if (format !== formatVersion) check.fail(`format is ${show(format)}; this version reads ${formatVersion}`)
  if (typeof stateText !== 'string') check.fail(`state is ${show(stateText)}; it must be a string`)
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
  const step = check.integer('step', { min: 0, max: Number.MAX_SAFE_INTEGER })
  const stepsDone = stepOfState(stateText as string, path)
  if (step !== stepsDone) check.fail(`step is ${step} and state.step is ${stepsDone}; they must be equal`)
  return {
    folder,
    saveId,
    dtype: check.choice('dtype', ['bfloat16', 'float32']),
    options: resolveTrainerOptions(options),
    stepsDone,
    weights,
    state,
  }
}

function stepOfState(text: string, path: string): number {
  return Checker.of(parseJson(text, `${path}: state`), `${path}: state`, 'CHECKPOINT_INVALID').integer('step', {
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
  })
}

/** Puts the saved optimizer state into a fresh trainer of the loaded model. */
export function restoreTrainerState(model: Model, trainer: NativeTrainer, saved: TrainerCheckpoint): Promise<void> {
  const others = trainer.tensors().filter(({ name }) => !name.startsWith(masterPrefix))
  const known = new Set(model.native.parameters().map(({ name }) => name))
  const files = [
    ...locateTensors(others, [saved.state], saved.folder),
    ...locateTensors(mastersOf(trainer), saved.weights, saved.folder, { ignored: (name) => known.has(name) }),
  ]
  return trainer.read(files, saved.stepsDone)
}

/** Gives a fresh trainer the weights of the checkpoint that its model was loaded from, which the model may have rounded. */
export async function readMasters(trainer: NativeTrainer, folder: string): Promise<void> {
  const { files } = await openCheckpoint(folder)
  const masters = mastersOf(trainer)
  if (masters.length > 0) await trainer.read(locateTensors(masters, files, folder, { ignored: () => true }), 0)
}

/** The float32 weights that a trainer has beside those of its model, under their names in model.safetensors. */
function mastersOf(trainer: NativeTrainer): (ExpectedTensor & { nativeName: string })[] {
  const masters = trainer.tensors().filter(({ name }) => name.startsWith(masterPrefix))
  return masters.map(({ name, shape }) => ({ name: name.slice(masterPrefix.length), shape, nativeName: name }))
}

async function readStateFile(folder: string): Promise<SafetensorsFile> {
  const path = join(folder, stateFileName)
  try {
    return await readSafetensorsFile(path)
  } catch (error) {
    const missing = ((error as MorError).cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT'
    if (!missing) throw error
    throw new MorError('CHECKPOINT_MISSING', `${path} is missing: ${trainerFileName} is there, so it was lost`, {
      cause: error,
    })
  }
}
