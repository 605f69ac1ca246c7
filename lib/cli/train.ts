// `mor train`: starts or resumes a run, and gives the training loop its model, data and folder.
import { MorError } from '../errors.js'
import { packageRoot } from '../native_loader.js'
import { tellEarlyExits } from './early_exits.js'
import { startRun } from './new_run.js'
import { Output } from './output.js'
import { nextRows, RunRanks } from './ranks.js'
import { resumeRun } from './resumed_run.js'
import { appendMetrics, recordPosition, runFiles } from './run_folder.js'
import { outputFailure } from './standard_streams.js'
import { type TrainResult, trainLoop } from './train_loop.js'
import { flagOf, type TrainOptions } from './train_options.js'
import { versionOf } from './version.js'

/**
 * Resolves when the run has ended or was interrupted and saved. Throws what its parts throw, and IO_ERROR where it was
 * interrupted because standard output failed: then an error is the only way to say so. Of several ranks, rank 0 alone shows progress,
 * as JSON lines, and writes the files of the run, but for the checkpoint, which all write together.
 */
export async function train(given: TrainOptions, shown: Output, signal: AbortSignal): Promise<TrainResult> {
  await using ranks = await RunRanks.join(signal)
  const { rank, size } = ranks
  const output = size === 1 ? shown : outputOfRank(rank, shown)
  const options = size === 1 ? given : await optionsOfRank(given, ranks)
  const run = options.resume ? await resumeRun(options, ranks, signal) : await startRun(options, ranks, output, signal)
  await using _held = run.held
  const { trainer, rows, owesEvaluation } = run
  const { gradientAccumulation, steps, evalEvery, evalBatches, saveEvery } = run.record.settings
  const files = runFiles(options.output)
  await using _teacher = trainer.teacher
  await using _model = trainer.model
  await using _trainer = trainer
  await using data = run.data
  const { train, validation } = data

  let record = run.record
  const save = async (step: number) => {
    record = await ranks.first(() => recordPosition(options.output, record, step, train.state()))
    await trainer.save(files.checkpoint)
  }
  const result = await trainLoop({
    trainer,
    ranks,
    train,
    nextRows: () => nextRows(train, { rows, microBatches: gradientAccumulation, rank, size }),
    validation,
    firstStep: trainer.stepsDone,
    owesEvaluation,
    steps,
    // As many rows as one rank would evaluate, in batches that fit this one.
    batchSize: rows,
    evalEvery,
    evalBatches: evalBatches * size,
    saveEvery,
    save,
    record: async (entry) => {
      if (rank === 0) await appendMetrics(options.output, entry)
    },
    output,
    signal,
  })
  if (!result.interrupted) tellEarlyExits(trainer.model.config, result.evaluation, output)
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

function outputOfRank(rank: number, shown: Output): Output {
  return rank === 0 ? shown.asJson() : new Output({ write: () => true })
}

/** The options with the device and the threads of this rank. All ranks must have the same others. */
async function optionsOfRank({ threads, nice, ...same }: TrainOptions, ranks: RunRanks): Promise<TrainOptions> {
  const flags = Object.entries(same).map(([name, value]) => [flagOf(name), value])
  await ranks.same({ 'the version': versionOf(packageRoot), ...Object.fromEntries(flags) })
  const device = await ranks.device(same.device ?? 'auto')
  return { ...same, device, nice, threads: threads || (await ranks.defaultThreads()) }
}
