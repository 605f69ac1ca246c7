// The training loop: steps, evaluations, checkpoints, and a clean end when interrupted.
import { type Dataset, DatasetMix } from '../dataset.js'
import { MorError } from '../errors.js'
import { type Evaluation, type Evaluator, evaluateDataset, evaluateMix } from './evaluation.js'
import { formatCount, formatDuration, formatShares } from './format.js'
import type { Output } from './output.js'
import { restoreData } from './run_data.js'

/** The part of a Trainer that the loop uses. */
export interface LoopTrainer extends Evaluator {
  step(batch: Int32Array[]): Promise<StepRecord>
}

export interface StepRecord {
  step: number
  loss: number
  lmLoss: number
  learningRate: number
  tokens: number
  tokensPerSecond: number
  depthHistogram: number[]
}

/** What a process does together with the other ranks of a run (RunRanks). */
export interface LoopRanks {
  rank: number
  /** Aborted once a rank was told to stop. */
  signal: AbortSignal
  /** Runs work of each rank. All throw if one fails. */
  together<T>(work: () => Promise<T>): Promise<T>
}

export interface TrainLoopOptions {
  trainer: LoopTrainer
  /** Null: there is one rank. */
  ranks: LoopRanks | null
  /** What `nextRows` takes rows of. */
  train: Dataset | DatasetMix
  /** This rank's rows of the next step. */
  nextRows: () => Promise<Int32Array[]>
  /** Null: no text is held out, and nothing is evaluated. */
  validation: Dataset | DatasetMix | null
  /** Steps that were done before this call. */
  firstStep: number
  /** Whether an evaluation comes before the first step: the run was stopped in it. */
  owesEvaluation: boolean
  steps: number
  /** Rows of one evaluation batch. */
  batchSize: number
  evalEvery: number
  evalBatches: number
  saveEvery: number
  /** Saves everything after `step` steps, together with the other ranks. */
  save: (step: number) => Promise<void>
  /** Receives every record for metrics.jsonl. */
  record: (record: object) => Promise<void>
  output: Output
  /** Of this rank. */
  signal: AbortSignal
}

export interface TrainResult {
  step: number
  interrupted: boolean
  /** Why it was interrupted, on whichever rank that was. */
  reason: unknown
  /** The last one, if any. */
  evaluation: Evaluation | null
}

/** This many refused steps in a row end the run. */
const MAX_REFUSED_STEPS = 10

/**
 * Trains until `steps` or until the signal aborts; the current step then finishes, an evaluation does not. Saves in either
 * case, and also before it throws, whatever ends the run. Evaluates with threshold routing, which is causal like that of generation. A step that is
 * refused for a non-finite loss is recorded and skipped; ten in a row end the run with `NON_FINITE`. Several ranks evaluate on rank 0,
 * and end together.
 */
export async function trainLoop(options: TrainLoopOptions): Promise<TrainResult> {
  const { firstStep, steps, output } = options
  const ranks = options.ranks ?? oneRank(options.signal)
  const run: RunState = { step: firstStep, savedStep: null, evaluation: null }
  let interrupted = false
  try {
    await takeSteps(options, ranks, run)
  } catch (error) {
    interrupted = ranks.signal.aborted && error instanceof MorError && error.code === 'ABORTED'
    if (!interrupted) {
      // The error says why the run ends; one of this save would only hide it. Ranks that have lost each other do not agree to save.
      const save = () => options.save(run.step)
      if (run.step > (run.savedStep ?? firstStep)) await ranks.together(nothing).then(save).catch(nothing)
      output.end()
      throw error
    }
  }
  if (run.savedStep !== run.step) await options.save(run.step)
  output.end()
  return {
    step: run.step,
    interrupted: interrupted || run.step < steps,
    reason: ranks.signal.reason,
    evaluation: run.evaluation,
  }
}

function oneRank(signal: AbortSignal): LoopRanks {
  return { rank: 0, signal, together: (work) => work() }
}

async function nothing(): Promise<void> {}

interface RunState {
  /** Steps done. */
  step: number
  /** The step of the last checkpoint that this call began to save, null: none. */
  savedStep: number | null
  evaluation: Evaluation | null
}

async function takeSteps(options: TrainLoopOptions, ranks: LoopRanks, run: RunState): Promise<void> {
  const { train, steps, saveEvery, save, output } = options
  const started = performance.now()
  let refused = 0
  const evaluateOnce = async () => {
    if (ranks.rank === 0) await evaluate(options, run)
  }
  if (options.owesEvaluation) await ranks.together(evaluateOnce)
  while (run.step < steps && !ranks.signal.aborted) {
    const stats = await stepOrRefusal(options, ranks)
    if (stats instanceof MorError) {
      run.savedStep = null // The rows are passed over for good only in a checkpoint that comes after them.
      const entry = { type: 'refused', step: run.step, message: stats.message, data: train.state() }
      const show = () => output.event(entry, `step ${run.step + 1} refused: ${stats.message}`)
      await ranks.together(() => tell(options, entry, show))
      if (++refused < MAX_REFUSED_STEPS) continue
      run.savedStep = run.step
      await save(run.step) // with the place in the data after what was refused
      throw stats
    }
    refused = 0
    run.step = stats.step
    const last = run.step === steps
    await ranks.together(async () => {
      const entry = { type: 'step', ...stats, ...seenOf(train) }
      const seconds = (performance.now() - started) / 1000
      const remaining = (seconds / (run.step - options.firstStep)) * (steps - run.step)
      await tell(options, entry, () => output.progress(entry, stepStatus(stats, steps, remaining)))
      if (evaluatesAfter(run.step, options)) await evaluateOnce()
    })
    if (last || run.step % saveEvery === 0) {
      run.savedStep = run.step
      await save(run.step)
    }
  }
}

/** Whether an evaluation follows the step that makes `step` of them. */
export function evaluatesAfter(step: number, { steps, evalEvery }: { steps: number; evalEvery: number }): boolean {
  return step > 0 && (step === steps || step % evalEvery === 0)
}

/** The error of a step that was refused is returned. Others are thrown, and a resumed run takes the rows of that step. */
async function stepOrRefusal(
  { trainer, train, nextRows }: TrainLoopOptions,
  ranks: LoopRanks,
): Promise<StepRecord | MorError> {
  const before = train.state()
  try {
    return await trainer.step(await ranks.together(nextRows))
  } catch (error) {
    if (error instanceof MorError && error.code === 'NON_FINITE') return error
    restoreData(train, before)
    throw error
  }
}

async function evaluate(options: TrainLoopOptions, run: RunState): Promise<void> {
  const { trainer, validation, batchSize, evalBatches, output, signal } = options
  if (validation === null) return
  const limits = { batchSize, maxBatches: evalBatches, routing: 'threshold', signal } as const
  const result = await (validation instanceof DatasetMix
    ? evaluateMix(trainer, validation, limits)
    : evaluateDataset(trainer, validation, limits))
  run.evaluation = result
  const entry = { type: 'evaluation', step: run.step, ...result }
  await tell(options, entry, () => output.event(entry, evaluationLine(run.step, result)))
}

async function tell({ record }: TrainLoopOptions, entry: object, show: () => void): Promise<void> {
  await record(entry)
  show()
}

/** How far the data was taken: for each dataset where several are mixed. */
function seenOf(data: Dataset | DatasetMix): object {
  return data instanceof DatasetMix ? { datasets: data.seen() } : { epoch: data.state().epoch }
}

function stepStatus(stats: StepRecord, steps: number, remainingSeconds: number): string {
  return [
    `step ${stats.step}/${steps}`,
    `loss ${stats.lmLoss.toFixed(3)}`,
    `lr ${stats.learningRate.toExponential(1)}`,
    `${formatCount(stats.tokensPerSecond)} tokens/s`,
    ...(stats.depthHistogram.length > 1 ? [`depths ${formatShares(stats.depthHistogram, stats.tokens)}`] : []),
    `${formatDuration(remainingSeconds)} left`,
  ].join('  ')
}

function evaluationLine(step: number, evaluation: Evaluation): string {
  const { lmLoss, bitsPerByte, tokens, depthHistogram, datasets = [] } = evaluation
  const depths = depthHistogram.length > 1 ? `, depths ${formatShares(depthHistogram, tokens)}` : ''
  const each = datasets.map(({ dataset, lmLoss }) => `${dataset} ${lmLoss.toFixed(4)}`).join(', ')
  const parts = each === '' ? '' : ` (${each})`
  return `step ${step}: validation loss ${lmLoss.toFixed(4)}${parts}, ${bitsPerByte.toFixed(2)} bits per byte${depths}`
}
