// `mor train`: starts or resumes a run, and gives the training loop its model, data and folder.
import { mkdir } from 'node:fs/promises'
import { relative, resolve } from 'node:path'
import type { ResolvedConfig } from '../config.js'
import { readConfigFile } from '../config_file.js'
import { readDatasetInfo } from '../dataset.js'
import { MorError } from '../errors.js'
import { mapInOrder } from '../map_in_order.js'
import { Model } from '../model.js'
import { Tokenizer } from '../tokenizer.js'
import { Trainer } from '../trainer.js'
import { readTrainerCheckpoint } from '../trainer_checkpoint.js'
import type { Schedule } from '../trainer_options.js'
import { loadDistillation } from './distillation.js'
import type { Output } from './output.js'
import { prepareData } from './prepare_data.js'
import { checkDatasetOptions, checkResumeOptions } from './resume_options.js'
import { type DataFolders, type DataState, foldersOf, mapFolders, openRunData, weightedDatasets } from './run_data.js'
import {
  appendMetrics,
  checkNoRun,
  positionAt,
  type RunRecord,
  readRunRecord,
  recordPosition,
  runFiles,
  trimMetrics,
  writeRunRecord,
} from './run_folder.js'
import { outputFailure } from './standard_streams.js'
import { type TrainResult, trainLoop } from './train_loop.js'
import { flagOf, parameterGroupsOf, type TrainOptions, trainDefaults } from './train_options.js'
import { findStart } from './train_start.js'

interface Run {
  tokenizer: Tokenizer
  trainer: Trainer
  record: RunRecord
  /** The position in the data to continue from; null: its start. */
  position: DataState | null
  dataset: DataFolders
}

/** Longest rows by default, since longer ones cost more than a first run should. */
const DEFAULT_LENGTH = 512

/**
 * Resolves when the run has ended or was interrupted and saved. Throws what its parts throw, and IO_ERROR where it was
 * interrupted because standard output failed: then an error is the only way to say so.
 */
export async function train(options: TrainOptions, output: Output, signal: AbortSignal): Promise<TrainResult> {
  const run = options.resume ? await resumeRun(options, signal) : await startRun(options, output, signal)
  const { trainer, tokenizer, dataset } = run
  const { length, batchSize, gradientAccumulation, seed, steps, evalEvery, evalBatches, saveEvery } =
    run.record.settings
  const files = runFiles(options.output)
  await using _teacher = trainer.teacher
  await using _model = trainer.model
  await using _trainer = trainer
  await using data = await openRunData(dataset, { length, seed, tokenizer }, run.position)
  const { train, validation } = data

  let record = run.record
  const save = async (step: number) => {
    record = await recordPosition(options.output, record, step, train.state())
    await trainer.save(files.checkpoint)
    await tokenizer.save(files.checkpoint)
  }
  const result = await trainLoop({
    trainer,
    train,
    validation,
    firstStep: trainer.stepsDone,
    steps,
    rowsPerStep: batchSize * gradientAccumulation,
    batchSize,
    evalEvery,
    evalBatches,
    saveEvery,
    save,
    record: (entry) => appendMetrics(options.output, entry),
    output,
    signal,
  })
  const goesOn = `mor train --resume --output ${options.output} goes on`
  const next = result.interrupted
    ? `stopped and saved: ${goesOn}`
    : `done: mor generate ${files.checkpoint} --depths writes with it`
  output.event(
    { type: 'end', step: result.step, interrupted: result.interrupted, checkpoint: files.checkpoint },
    `step ${result.step}: ${next}`,
  )
  const lost = outputFailure()
  if (result.interrupted && lost !== null && signal.reason === lost) {
    throw new MorError('IO_ERROR', `${lost.message}: stopped and saved at step ${result.step}; ${goesOn}`, {
      cause: lost,
    })
  }
  return result
}

async function startRun(options: TrainOptions, output: Output, signal: AbortSignal): Promise<Run> {
  const { data, output: folder } = options
  if (data === undefined)
    throw new MorError('INVALID_ARGUMENT', 'a new run needs text: give --data, or --resume to go on with a run')
  const course = { ...trainDefaults, ...options }
  const schedule = scheduleOf(course)
  const parameterGroups = parameterGroupsOf(options)
  const start = await findStart(options)
  const { source, tokenizer } = start
  await checkNoRun(folder)
  tellWarmup(start.config, options.capacityWarmupSteps, course.steps, output)
  const { max_position_embeddings: context } = start.config
  const length = options.length ?? Math.min(DEFAULT_LENGTH, context)
  if (length > context) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `--length is ${length}, more than max_position_embeddings ${context} of ${source}`,
    )
  }
  const { textField, validationFraction, seed } = course
  const text = { data, tokenizer, textField, validationFraction, length }
  const dataset = (await weightedDatasets(data)) ?? (await prepareData(text, runFiles(folder).dataset, output, signal))
  for (const each of foldersOf(dataset)) checkDatasetOptions(options, each, await readDatasetInfo(each))
  // Datasets that do not fit are refused before a model is made.
  await (await openRunData(dataset, { length, seed, tokenizer }, null))[Symbol.asyncDispose]()
  const { learningRate, weightDecay, gradientClip, gradientAccumulation, recompute } = course
  const depthSchedule = options.depthScheduleSteps === undefined ? null : { steps: options.depthScheduleSteps }
  const distillation = await loadDistillation(options, signal)
  const trainer = await disposing(distillation?.teacher, () =>
    start.makeTrainer(
      {
        learningRate,
        schedule,
        weightDecay,
        gradientClip,
        gradientAccumulation,
        parameterGroups,
        depthSchedule,
        depthDropout: options.depthDropout,
        capacityWarmupSteps: options.capacityWarmupSteps,
        distillation,
        recompute,
      },
      signal,
    ),
  )
  try {
    const { batchSize, steps, evalEvery, evalBatches, saveEvery } = course
    const settings = {
      dataset: mapFolders(dataset, (path) => relative(folder, path)),
      ...(options.teacher !== undefined && { teacher: relative(folder, options.teacher) }),
      length,
      batchSize,
      gradientAccumulation,
      steps,
      seed,
      evalEvery,
      evalBatches,
      saveEvery,
    }
    const record: RunRecord = { settings, positions: [] }
    await mkdir(folder, { recursive: true })
    await writeRunRecord(folder, record)
    await trimMetrics(folder, 0)
    return { tokenizer, trainer, record, position: null, dataset }
  } catch (error) {
    await disposeModels(trainer)
    throw error
  }
}

async function resumeRun(options: TrainOptions, signal: AbortSignal): Promise<Run> {
  const { output: folder, device, threads, nice, recompute } = options
  const files = runFiles(folder)
  const record = await readRunRecord(folder)
  if (record.positions.length === 0) {
    throw new MorError(
      'CHECKPOINT_MISSING',
      `the run in ${folder} was stopped before its first checkpoint: delete the folder and start again`,
    )
  }
  const { steps, evalEvery, evalBatches, saveEvery } = { ...trainDefaults, ...record.settings, ...options }
  const settings = { ...record.settings, steps, evalEvery, evalBatches, saveEvery }
  const tokenizer = await Tokenizer.load(files.checkpoint)
  const dataset = mapFolders(settings.dataset, (path) => resolve(folder, path))
  const saved = await readTrainerCheckpoint(files.checkpoint)
  await checkResumeOptions(options, {
    settings: record.settings,
    trainer: saved,
    config: await readConfigFile(files.checkpoint),
    tokenizer,
    dataset,
    infos: await mapInOrder(foldersOf(dataset), readDatasetInfo),
  })
  const schedule = withSteps(saved.options.schedule, steps)
  const load = { device, threads, nice, signal }
  const teacher =
    settings.teacher === undefined
      ? null
      : await Model.load(resolve(folder, settings.teacher), { ...load, dtype: saved.dtype })
  const trainer = await disposing(teacher, () =>
    Trainer.resume(files.checkpoint, { ...load, recompute, schedule, distillation: teacher && { teacher } }),
  )
  try {
    const position = positionAt(record, trainer.stepsDone)
    await writeRunRecord(folder, { ...record, settings })
    await trimMetrics(folder, trainer.stepsDone)
    return { tokenizer, trainer, record: { ...record, settings }, position, dataset }
  } catch (error) {
    await disposeModels(trainer)
    throw error
  }
}

async function disposeModels({ model, teacher }: Trainer): Promise<void> {
  await model.dispose()
  await teacher?.dispose()
}

/** Disposes the teacher if there is no trainer for it. */
async function disposing(teacher: Model | null | undefined, make: () => Promise<Trainer>): Promise<Trainer> {
  try {
    return await make()
  } catch (error) {
    await teacher?.dispose()
    throw error
  }
}

/** A run that ends within the warm-up has never trained with the capacities that its model is used with. */
function tellWarmup({ router }: ResolvedConfig, given: number | undefined, steps: number, output: Output): void {
  const warmup = given ?? (router?.type === 'expert_choice' ? router.capacity_warmup_steps : 0)
  if (warmup < steps) return
  output.event(
    { type: 'notice', capacityWarmupSteps: warmup, steps },
    `the capacities reach their values after ${warmup} steps, and the run has ${steps}: give --capacity-warmup-steps, such as ${Math.ceil(steps / 3)}`,
  )
}

/** Throws `INVALID_ARGUMENT` for steps that the schedule does not have. */
function scheduleOf({
  schedule: type,
  steps: totalSteps,
  warmupSteps,
  cooldownSteps,
}: typeof trainDefaults & TrainOptions): Schedule {
  if (type === 'trapezoid') return { type, totalSteps, warmupSteps, cooldownSteps }
  if (cooldownSteps !== undefined) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `${flagOf('cooldownSteps')} is ${cooldownSteps}, but the schedule is ${type}: only the trapezoid has a cool-down`,
    )
  }
  return type === 'constant' ? { type, warmupSteps } : { type, totalSteps, warmupSteps }
}

/** The same schedule over `totalSteps`, if it has an end. */
function withSteps(schedule: Schedule, totalSteps: number): Schedule {
  return schedule.type === 'constant' ? schedule : { ...schedule, totalSteps }
}
