// Compares the options that a run is resumed with to those that it began with. What decides its course cannot change.
import { resolve } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { show } from '../check.js'
import type { ResolvedConfig } from '../config.js'
import { describeSource } from '../dataset/build.js'
import { findInputs } from '../dataset/inputs.js'
import type { DatasetInfo } from '../dataset.js'
import { MorError, toMorError } from '../errors.js'
import { mapInOrder } from '../map_in_order.js'
import type { Tokenizer } from '../tokenizer.js'
import type { TrainerCheckpoint } from '../trainer_checkpoint.js'
import { findNewConfig } from './config_source.js'
import { type DataFolders, foldersOf, mapFolders, showWeighted, weightedDatasets } from './run_data.js'
import type { RunSettings } from './run_folder.js'
import { findTokenizer } from './tokenizer_source.js'
import { flagOf, parameterGroupsOf, type TrainOptions } from './train_options.js'

/** A run as its folder holds it. */
export interface SavedRun {
  settings: RunSettings
  trainer: Pick<TrainerCheckpoint, 'dtype' | 'options' | 'stepsDone'>
  config: ResolvedConfig
  tokenizer: Tokenizer
  /** Its datasets, and what each says. */
  dataset: DataFolders
  infos: DatasetInfo[]
}

/**
 * Throws `INVALID_ARGUMENT` for an option that the run did not begin with, and for fewer steps than it has done or than its warm-up and
 * cool-down take; what `findTokenizer` and `findNewConfig` throw. More steps, and what changes no weight (evaluations, checkpoints, recomputation),
 * may be asked for.
 */
export async function checkResumeOptions(options: TrainOptions, run: SavedRun): Promise<void> {
  const { settings, trainer, infos, tokenizer } = run
  const { length, batchSize, seed } = settings
  const { schedule, learningRate, weightDecay, gradientClip, gradientAccumulation } = trainer.options
  const { dtype } = trainer
  for (const [i, folder] of foldersOf(run.dataset).entries()) checkDatasetOptions(options, folder, infos[i]!)
  compare(options, { length, batchSize, seed, dtype })
  compare(options, { learningRate, weightDecay, gradientClip, gradientAccumulation })
  const { type, warmupSteps } = schedule
  compare(options, {
    schedule: type,
    warmupSteps,
    cooldownSteps: 'cooldownSteps' in schedule ? schedule.cooldownSteps : undefined,
  })
  const { depthSchedule, depthDropout, capacityWarmupSteps, distillation } = trainer.options
  compare(options, {
    depthScheduleSteps: depthSchedule?.steps,
    depthDropout,
    capacityWarmupSteps: capacityWarmupSteps ?? undefined,
    distillationTemperature: distillation?.temperature,
    distillationWeight: distillation?.weight,
  })
  const teacher = settings.teacher === undefined ? undefined : resolve(options.output, settings.teacher)
  if (options.teacher !== undefined && resolve(options.teacher) !== teacher) {
    throw differs('teacher', options.teacher, teacher)
  }
  const groups = parameterGroupsOf(options)
  if (groups.length > 0 && !isDeepStrictEqual(groups, trainer.options.parameterGroups)) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `--freeze and --learning-rate-of ask for ${show(groups)}, but the run began with ${show(trainer.options.parameterGroups)}, and that cannot change: leave them out to go on, or start a new run`,
    )
  }
  if (options.from !== undefined) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `--from is ${options.from}, but a run that is resumed goes on from its own checkpoint: leave --from out, or start a new run`,
    )
  }
  if (options.steps !== undefined) checkSteps(options.steps, trainer)
  if (options.data !== undefined) await compareData(options.data, run)
  if (options.tokenizer !== undefined) {
    const given = await findTokenizer(options.tokenizer)
    if (given.fingerprint !== tokenizer.fingerprint)
      throw differs('tokenizer', options.tokenizer, infos[0]!.tokenizer.name)
  }
  if (options.config !== undefined) {
    compareConfig(options.config, await findNewConfig(options.config, tokenizer), run.config)
  }
}

function checkSteps(steps: number, { stepsDone, options: { schedule } }: SavedRun['trainer']): void {
  if (steps < stepsDone) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `--steps is ${steps}, but the run has done ${stepsDone} steps: give more, or start a new run`,
    )
  }
  if (schedule.type === 'constant') return
  const warmup = schedule.warmupSteps ?? 0
  const cooldown = schedule.type === 'trapezoid' ? (schedule.cooldownSteps ?? 0) : 0
  if (steps >= warmup + cooldown) return
  throw new MorError(
    'INVALID_ARGUMENT',
    `--steps is ${steps}, but the learning rate has a warm-up of ${warmup} steps and a cool-down of ${cooldown}, which cannot change: give ` +
      `at least ${warmup + cooldown}, or start a new run`,
  )
}

/** Throws `INVALID_ARGUMENT` for an option that would have made another dataset than the one in `folder`. */
export function checkDatasetOptions(options: TrainOptions, folder: string, info: DatasetInfo): void {
  const made = { textField: info.text_field, validationFraction: info.validation_fraction }
  for (const [name, value] of Object.entries(made)) {
    const given = options[name as keyof typeof made]
    if (given === undefined || given === value) continue
    throw new MorError(
      'INVALID_ARGUMENT',
      `${flagOf(name)} is ${show(given)}, but the dataset ${folder} was made with ${show(value)}: leave it out, or make another dataset in a new run`,
    )
  }
}

function compare(options: TrainOptions, began: Partial<TrainOptions>): void {
  for (const [name, value] of Object.entries(began)) {
    const given = options[name as keyof TrainOptions]
    if (given !== undefined && given !== value) throw differs(name, given, value)
  }
}

function differs(name: string, given: unknown, began: unknown): MorError {
  const value = began === undefined ? 'without it' : `with ${typeof began === 'string' ? began : show(began)}`
  const asked = typeof given === 'string' ? given : show(given)
  return new MorError(
    'INVALID_ARGUMENT',
    `${flagOf(name)} is ${asked}, but the run began ${value}, and that cannot change: leave it out to go on, or start a new run`,
  )
}

async function compareData(data: readonly string[], { dataset, infos }: SavedRun): Promise<void> {
  const weighted = await weightedDatasets(data)
  if (weighted !== null || typeof dataset !== 'string') {
    const given = weighted && mapFolders(weighted, (folder) => resolve(folder))
    if (!isDeepStrictEqual(given, dataset)) throw differs('data', data.join(' '), describeData(dataset, infos))
    return
  }
  if (data.length === 1 && resolve(data[0]!) === resolve(dataset)) return
  const { sources } = infos[0]!
  const given = await mapInOrder(await findInputs(data), (path) => describeSource(path)).catch((error: unknown) => {
    throw toMorError(error)
  })
  if (isDeepStrictEqual(given, sources)) return
  if (pathsOf(given) !== pathsOf(sources)) throw differs('data', data.join(' '), pathsOf(sources))
  const changed = given.find((source, i) => !isDeepStrictEqual(source, sources[i]))!
  throw new MorError(
    'INVALID_ARGUMENT',
    `--data: ${changed.path} has changed since the run began: leave --data out to go on with the tokens of then, or start a new run`,
  )
}

/** As --data would name them. */
function describeData(dataset: DataFolders, infos: readonly DatasetInfo[]): string {
  return typeof dataset === 'string' ? pathsOf(infos[0]!.sources) : showWeighted(dataset)
}

function pathsOf(sources: DatasetInfo['sources']): string {
  return sources.map(({ path }) => path).join(' ')
}

function compareConfig(source: string, given: ResolvedConfig, began: ResolvedConfig): void {
  for (const key of Object.keys(began) as (keyof ResolvedConfig)[]) {
    if (isDeepStrictEqual(given[key], began[key])) continue
    throw new MorError(
      'INVALID_ARGUMENT',
      `--config: ${source} has ${key} ${show(given[key])}, but the run began with ${show(began[key])}, and that cannot change: leave --config out to go on, or start a new run`,
    )
  }
}
