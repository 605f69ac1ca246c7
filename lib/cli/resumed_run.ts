// Goes on with a run of `mor train` from its folder.
import { resolve } from 'node:path'
import { readConfigFile } from '../config_file.js'
import { readDatasetInfo } from '../dataset.js'
import { MorError } from '../errors.js'
import { holdFolder } from '../folder_lock.js'
import { mapInOrder } from '../map_in_order.js'
import { Model } from '../model.js'
import { Tokenizer } from '../tokenizer.js'
import { Trainer } from '../trainer.js'
import { readTrainerCheckpoint } from '../trainer_checkpoint.js'
import type { Schedule } from '../trainer_options.js'
import { type RunRanks, rowsOfRank } from './ranks.js'
import { checkResumeOptions } from './resume_options.js'
import { disposing, distributedOf, identityOf, modelsOf, type Run } from './run.js'
import { foldersOf, mapFolders, openRunData } from './run_data.js'
import {
  hasSaved,
  makeShared,
  positionAt,
  readRunRecord,
  resumedRecord,
  runFiles,
  trimMetrics,
  writeRunRecord,
} from './run_folder.js'
import { evaluatesAfter } from './train_loop.js'
import { type TrainOptions, trainDefaults } from './train_options.js'

/** Throws what its parts throw, on all ranks. */
export async function resumeRun(options: TrainOptions, ranks: RunRanks, signal: AbortSignal): Promise<Run> {
  const held = await ranks.together(async () => (ranks.rank === 0 ? holdFolder(options.output) : null))
  return disposing(held, async () => ({ held, ...(await resumeHeld(options, ranks, signal)) }))
}

async function resumeHeld(options: TrainOptions, ranks: RunRanks, signal: AbortSignal): Promise<Omit<Run, 'held'>> {
  const { output: folder, device, threads, nice, recompute, weightHashInterval } = options
  const files = runFiles(folder)
  const { record, settings, rows, infos, saved, data } = await ranks.read(() => readRun(options, ranks))
  return disposing(data, async () => {
    if (ranks.size > 1) await makeShared(folder, ranks)
    await ranks.same({ 'steps done': saved.stepsDone, ...identityOf(saved.config, settings.dataset, infos) })
    const schedule = withSteps(saved.options.schedule, settings.steps)
    const load = { device, threads, nice, signal }
    const trainer = await ranks.together(async () => {
      const teacher =
        settings.teacher === undefined
          ? null
          : await Model.load(resolve(folder, settings.teacher), { ...load, dtype: saved.dtype })
      const distillation = teacher && { teacher }
      const distributed = distributedOf(options, ranks)
      const changes = { recompute, weightHashInterval, schedule, distillation, distributed }
      return disposing(teacher, () => Trainer.resume(files.checkpoint, { ...load, ...changes }))
    })
    return disposing(modelsOf(trainer), async () => {
      const resumed = resumedRecord({ ...record, settings }, trainer.stepsDone)
      const { stepsDone } = trainer
      const isEvaluated = await ranks.first(async () => {
        await writeRunRecord(folder, resumed)
        return trimMetrics(folder, stepsDone, positionAt(resumed, stepsDone))
      })
      const owesEvaluation = !isEvaluated && evaluatesAfter(stepsDone, settings)
      return { trainer, record: resumed, data, rows, owesEvaluation }
    })
  })
}

/** What the folder of a run says of it, checked against the options, and its data, open. */
async function readRun(options: TrainOptions, ranks: RunRanks) {
  const { output: folder } = options
  const files = runFiles(folder)
  const record = await readRunRecord(folder)
  if (!(await hasSaved(folder, record))) {
    throw new MorError(
      'CHECKPOINT_MISSING',
      `the run in ${folder} was stopped before its first checkpoint: delete ${files.record} and start again`,
    )
  }
  const { steps, evalEvery, evalBatches, saveEvery } = { ...trainDefaults, ...record.settings, ...options }
  const settings = { ...record.settings, steps, evalEvery, evalBatches, saveEvery }
  const rows = rowsOfRank(settings.batchSize, ranks.size, true)
  const tokenizer = await Tokenizer.load(files.checkpoint)
  const dataset = mapFolders(settings.dataset, (path) => resolve(folder, path))
  const saved = { ...(await readTrainerCheckpoint(files.checkpoint)), config: await readConfigFile(files.checkpoint) }
  const infos = await mapInOrder(foldersOf(dataset), readDatasetInfo)
  await checkResumeOptions(options, {
    settings: record.settings,
    trainer: saved,
    config: saved.config,
    tokenizer,
    dataset,
    infos,
  })
  const { length, seed } = settings
  const data = await openRunData(dataset, { length, seed, tokenizer }, positionAt(record, saved.stepsDone))
  return { record, settings, rows, infos, saved, data }
}

/** The same schedule over `totalSteps`, if it has an end. */
function withSteps(schedule: Schedule, totalSteps: number): Schedule {
  return schedule.type === 'constant' ? schedule : { ...schedule, totalSteps }
}
