// Starts a run of `mor train`: its options, its data, its model and its folder.
import { rmdir } from 'node:fs/promises'
import { relative } from 'node:path'
import type { ResolvedConfig } from '../config.js'
import { findInputs } from '../dataset/inputs.js'
import { readDatasetInfo } from '../dataset.js'
import { MorError } from '../errors.js'
import { exists } from '../exists.js'
import { holdFolder } from '../folder_lock.js'
import { makeFolder } from '../make_folder.js'
import { mapInOrder } from '../map_in_order.js'
import { checkFitsConfig, resolveTrainerOptions, type Schedule } from '../trainer_options.js'
import { checkTeacher, checkTeacherOptions, loadDistillation } from './distillation.js'
import type { Output } from './output.js'
import { prepareData, tellKept } from './prepare_data.js'
import { type RunRanks, rowsOfRank } from './ranks.js'
import { checkDatasetOptions } from './resume_options.js'
import { disposing, distributedOf, identityOf, modelsOf, type Run } from './run.js'
import { foldersOf, mapFolders, openRunData, weightedDatasets } from './run_data.js'
import { checkNoRun, emptyMetrics, makeShared, type RunRecord, runFiles, writeRunRecord } from './run_folder.js'
import { flagOf, parameterGroupsOf, type TrainOptions, trainDefaults } from './train_options.js'
import { findStart } from './train_start.js'

/** Longest rows by default, since longer ones cost more than a first run should. */
const DEFAULT_LENGTH = 512

/** Throws what its parts throw, on all ranks. */
export async function startRun(
  options: TrainOptions,
  ranks: RunRanks,
  output: Output,
  signal: AbortSignal,
): Promise<Run> {
  const plan = await ranks.together(() => planRun(options, ranks, output))
  const held = await ranks.together(async () => (ranks.rank === 0 ? holdNew(options.output) : null))
  return disposing(held, async () => ({ held, ...(await startPlanned(plan, options, ranks, output, signal)) }))
}

/** Makes the folder of a run and holds it. Throws what `holdFolder` and `checkNoRun` throw. */
async function holdNew(folder: string): Promise<AsyncDisposable> {
  const isMade = !(await exists(folder))
  await makeFolder(folder)
  const held = await holdFolder(folder)
  const release = {
    async [Symbol.asyncDispose]() {
      if (isMade) await rmdir(folder).catch(() => {}) // An error may come before anything is in it.
      await held?.[Symbol.asyncDispose]()
    },
  }
  // Another run may have come and gone since the plan was made.
  return disposing(release, async () => {
    await checkNoRun(folder)
    return release
  })
}

async function startPlanned(
  { start, length, data, rows, trainerOptions }: Awaited<ReturnType<typeof planRun>>,
  options: TrainOptions,
  ranks: RunRanks,
  output: Output,
  signal: AbortSignal,
): Promise<Omit<Run, 'held'>> {
  const { output: folder } = options
  const course = { ...trainDefaults, ...options }
  const { tokenizer } = start
  if (ranks.size > 1) await makeShared(folder, ranks)
  const { textField, validationFraction, seed } = course
  const text = { tokenizer, textField, validationFraction, length }
  const dataset = await ranks.first(async () => {
    const weighted = await weightedDatasets(data)
    if (weighted !== null) return weighted
    return prepareData({ ...text, data: await findInputs(data) }, runFiles(folder).dataset, output, signal)
  })
  const { infos, opened } = await ranks.read(async () => {
    const infos = await mapInOrder(foldersOf(dataset), readDatasetInfo)
    for (const [i, each] of foldersOf(dataset).entries()) checkDatasetOptions(options, each, infos[i]!)
    // Datasets that do not fit are refused before a model is made.
    return { infos, opened: await openRunData(dataset, { length, seed, tokenizer }, null) }
  })
  return disposing(opened, async () => {
    await ranks.same(identityOf(start.config, dataset, infos))
    const trainer = await ranks
      .together(async () => {
        const distillation = await loadDistillation(options, signal)
        const distributed = distributedOf(options, ranks)
        return disposing(distillation?.teacher, () =>
          start.makeTrainer({ ...trainerOptions, distillation, distributed }, signal),
        )
      })
      .catch((error: unknown) => {
        if (signal.aborted && dataset === runFiles(folder).dataset) tellKept(dataset, output)
        throw error
      })
    return disposing(modelsOf(trainer), async () => {
      const { batchSize, gradientAccumulation, steps, evalEvery, evalBatches, saveEvery } = course
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
      await ranks.first(async () => {
        await writeRunRecord(folder, record)
        await emptyMetrics(folder)
      })
      return { trainer, record, data: opened, rows, owesEvaluation: false }
    })
  })
}

/** What a new run is made of, checked before anything is written. */
async function planRun(options: TrainOptions, ranks: RunRanks, output: Output) {
  const { data, output: folder } = options
  if (data === undefined)
    throw new MorError('INVALID_ARGUMENT', 'a new run needs text: give --data, or --resume to go on with a run')
  const course = { ...trainDefaults, ...options }
  const rows = rowsOfRank(course.batchSize, ranks.size, false)
  const schedule = scheduleOf(course)
  checkTeacherOptions(options)
  const parameterGroups = parameterGroupsOf(options)
  const start = await findStart(options)
  // Other ranks must not ask for what rank 0 is about to make: network file systems remember for a while what was not there.
  if (ranks.rank === 0) await checkNoRun(folder)
  if (options.teacher !== undefined) await checkTeacher(options.teacher, start)
  tellWarmup(start.config, options.capacityWarmupSteps, course.steps, output)
  tellDepthSchedule(options.depthScheduleSteps, course.steps, output)
  const { max_position_embeddings: context } = start.config
  const length = options.length ?? Math.min(DEFAULT_LENGTH, context)
  if (length > context) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `--length is ${length}, more than max_position_embeddings ${context} of ${start.source}`,
    )
  }
  const { learningRate, weightDecay, gradientClip, gradientAccumulation, recompute } = course
  const trainerOptions = {
    learningRate,
    schedule,
    weightDecay,
    gradientClip,
    gradientAccumulation,
    parameterGroups,
    depthSchedule: options.depthScheduleSteps === undefined ? null : { steps: options.depthScheduleSteps },
    depthDropout: options.depthDropout,
    capacityWarmupSteps: options.capacityWarmupSteps,
    recompute,
    weightHashInterval: options.weightHashInterval,
  }
  const { distillationTemperature: temperature, distillationWeight: weight } = options
  const distillation = options.teacher === undefined ? null : { temperature, weight }
  checkFitsConfig(resolveTrainerOptions({ ...trainerOptions, distillation }), start.config)
  return { start, length, data, rows, trainerOptions }
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

/** A run that ends within the schedule of depth has never trained all recursions, which its model is used with. */
function tellDepthSchedule(scheduled: number | undefined, steps: number, output: Output): void {
  if (scheduled === undefined || scheduled < steps) return
  output.event(
    { type: 'notice', depthScheduleSteps: scheduled, steps },
    `all recursions run after ${scheduled} steps, and the run has ${steps}: give --depth-schedule-steps, such as ${Math.ceil(steps / 3)}`,
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
