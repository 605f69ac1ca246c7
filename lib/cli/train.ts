// `mor train`: starts or resumes a run, and gives the training loop its model, data and folder.
import { mkdir } from 'node:fs/promises'
import { relative, resolve } from 'node:path'
import { Dataset, type DatasetState } from '../dataset.js'
import { MorError } from '../errors.js'
import { type LoadOptions, Model } from '../model.js'
import { Tokenizer } from '../tokenizer.js'
import { Trainer } from '../trainer.js'
import type { Schedule } from '../trainer_options.js'
import { findNewConfig } from './config_source.js'
import type { Output } from './output.js'
import { prepareData } from './prepare_data.js'
import {
  appendMetrics,
  checkNoRun,
  positionAt,
  type RunRecord,
  type RunSettings,
  readRunRecord,
  recordPosition,
  runFiles,
  trimMetrics,
  writeRunRecord,
} from './run_folder.js'
import { outputFailure } from './standard_streams.js'
import { findTokenizer } from './tokenizer_source.js'
import { type TrainResult, trainLoop } from './train_loop.js'

/** The options of a new run. */
export interface CourseOptions extends Omit<RunSettings, 'dataset' | 'length'> {
  /** A preset or a JSON file. */
  config?: string
  data?: string[]
  /** Default: the context of the model, at most 512. */
  length?: number
  tokenizer: string
  textField: string
  validationFraction: number
  learningRate: number
  schedule: Schedule['type']
  warmupSteps?: number
  cooldownSteps?: number
  weightDecay: number
  gradientClip: number
}

export interface TrainOptions extends CourseOptions, Pick<LoadOptions, 'device' | 'dtype' | 'threads'> {
  output: string
  resume?: boolean
  recompute?: boolean
  evalEvery: number
  evalBatches: number
  saveEvery: number
}

interface Run {
  tokenizer: Tokenizer
  trainer: Trainer
  record: RunRecord
  /** The position in the data to continue from; null: its start. */
  position: DatasetState | null
  dataset: string
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
  const { length, batchSize, gradientAccumulation, seed, steps } = run.record.settings
  const files = runFiles(options.output)
  await using _model = trainer.model
  await using _trainer = trainer
  await using train = await Dataset.open(dataset, { split: 'train', length, seed, tokenizer })
  await using validation = await openValidation(dataset, train)
  if (run.position) train.restore(run.position)

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
    evalEvery: options.evalEvery,
    evalBatches: options.evalBatches,
    saveEvery: options.saveEvery,
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
  const { config: source, data, output: folder, device, dtype, threads, seed, validationFraction, textField } = options
  if (source === undefined)
    throw new MorError('INVALID_ARGUMENT', 'a new run needs a model: give --config, or --resume to go on with a run')
  if (data === undefined)
    throw new MorError('INVALID_ARGUMENT', 'a new run needs text: give --data, or --resume to go on with a run')
  await checkNoRun(folder)
  const tokenizer = await findTokenizer(options.tokenizer)
  const config = await findNewConfig(source, tokenizer)
  const { max_position_embeddings: context } = config
  const length = options.length ?? Math.min(DEFAULT_LENGTH, context)
  if (length > context) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `--length is ${length}, more than max_position_embeddings ${context} of ${source}`,
    )
  }
  const dataset = await prepareData(
    { data, tokenizer, textField, validationFraction, length },
    runFiles(folder).dataset,
    output,
    signal,
  )
  const model = await Model.create(config, { device, dtype, threads, seed, signal })
  try {
    const { learningRate, weightDecay, gradientClip, gradientAccumulation, recompute = false } = options
    const schedule = scheduleOf(options)
    const trainer = new Trainer(model, {
      learningRate,
      schedule,
      weightDecay,
      gradientClip,
      gradientAccumulation,
      recompute,
    })
    const { batchSize, steps } = options
    const settings = {
      dataset: relative(folder, dataset),
      length,
      batchSize,
      gradientAccumulation,
      steps,
      seed,
    }
    const record: RunRecord = { settings, positions: [] }
    await mkdir(folder, { recursive: true })
    await writeRunRecord(folder, record)
    await trimMetrics(folder, 0)
    return { tokenizer, trainer, record, position: null, dataset }
  } catch (error) {
    await model.dispose()
    throw error
  }
}

async function resumeRun(options: TrainOptions, signal: AbortSignal): Promise<Run> {
  const { output: folder, device, threads } = options
  const files = runFiles(folder)
  const record = await readRunRecord(folder)
  if (record.positions.length === 0) {
    throw new MorError(
      'CHECKPOINT_MISSING',
      `the run in ${folder} was stopped before its first checkpoint: delete the folder and start again`,
    )
  }
  const tokenizer = await Tokenizer.load(files.checkpoint)
  const dataset = resolve(folder, record.settings.dataset)
  const trainer = await Trainer.resume(files.checkpoint, { device, threads, signal })
  try {
    const position = positionAt(record, trainer.stepsDone)
    await trimMetrics(folder, trainer.stepsDone)
    return { tokenizer, trainer, record, position, dataset }
  } catch (error) {
    await trainer.model.dispose()
    throw error
  }
}

function scheduleOf({ schedule: type, steps: totalSteps, warmupSteps, cooldownSteps }: CourseOptions): Schedule {
  if (type === 'constant') return { type, warmupSteps }
  if (type === 'cosine') return { type, totalSteps, warmupSteps }
  return { type, totalSteps, warmupSteps, cooldownSteps }
}

/** Null if no text was held out. */
async function openValidation(folder: string, { info, length }: Dataset): Promise<Dataset | null> {
  return info.splits.validation.tokens === 0 ? null : Dataset.open(folder, { split: 'validation', length })
}
