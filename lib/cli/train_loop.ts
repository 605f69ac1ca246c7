// The training loop: steps, evaluations, checkpoints, and a clean end when interrupted.
import { type Dataset, DatasetMix } from '../dataset.js'
import { MorError } from '../errors.js'
import { type Evaluation, type Evaluator, evaluateDataset, evaluateMix } from './evaluation.js'
import { formatCount, formatDuration, formatShares } from './format.js'
import type { Output } from './output.js'

/** The part of a Trainer that the loop uses. */
export interface LoopTrainer extends Evaluator {
  step(batch: Int32Array[]): Promise<StepRecord>
}

export interface StepRecord {
  step: number
  loss: number
  lmLoss: number
  learningRate: number
  tokensPerSecond: number
  depthHistogram: number[]
}

export interface TrainLoopOptions {
  trainer: LoopTrainer
  train: Dataset | DatasetMix
  /** Null: no text is held out, and nothing is evaluated. */
  validation: Dataset | DatasetMix | null
  /** Steps that were done before this call. */
  firstStep: number
  steps: number
  /** Rows of one step, all micro-batches together. */
  rowsPerStep: number
  /** Rows of one evaluation batch. */
  batchSize: number
  evalEvery: number
  evalBatches: number
  saveEvery: number
  /** Saves everything after `step` steps. */
  save: (step: number) => Promise<void>
  /** Receives every record for metrics.jsonl. */
  record: (record: object) => Promise<void>
  output: Output
  signal: AbortSignal
}

export interface TrainResult {
  step: number
  interrupted: boolean
  /** The last one, if any. */
  evaluation: Evaluation | null
}

/** This many refused steps in a row end the run. */
const MAX_REFUSED_STEPS = 10

/**
 * Trains until `steps` or until the signal aborts; the current step then finishes, an evaluation does not. Saves in either
 * case, and also before it throws, whatever ends the run. Evaluates with threshold routing, which is causal like that of generation. A step that is
 * refused for a non-finite loss is recorded and skipped; ten in a row end the run with `NON_FINITE`.
 */
export async function trainLoop(options: TrainLoopOptions): Promise<TrainResult> {
  const { firstStep, steps, signal, output } = options
  const run: RunState = { step: firstStep, savedStep: null, evaluation: null }
  try {
    await takeSteps(options, run)
  } catch (error) {
    const interrupted = signal.aborted && error instanceof MorError && error.code === 'ABORTED'
    if (!interrupted) {
      // The error says why the run ends; one of this save would only hide it.
      if (run.step > (run.savedStep ?? firstStep)) await options.save(run.step).catch(() => {})
      output.end()
      throw error
    }
  }
  if (run.savedStep !== run.step) await options.save(run.step)
  output.end()
  return { step: run.step, interrupted: run.step < steps, evaluation: run.evaluation }
}

interface RunState {
  /** Steps done. */
  step: number
  /** The step of the last checkpoint that this call began to save, null: none. */
  savedStep: number | null
  evaluation: Evaluation | null
}

async function takeSteps(options: TrainLoopOptions, run: RunState): Promise<void> {
  const { trainer, train, validation, steps, rowsPerStep, evalEvery, saveEvery, save, record, output, signal } = options
  const started = performance.now()
  const tell = async (entry: object, show: () => void) => {
    await record(entry)
    show()
  }
  let refused = 0
  while (run.step < steps && !signal.aborted) {
    const rows = await train.next(rowsPerStep)
    try {
      const stats = await trainer.step(rows)
      run.step = stats.step
      refused = 0
      const entry = { type: 'step', ...stats, ...seenOf(train) }
      const seconds = (performance.now() - started) / 1000
      const remaining = (seconds / (run.step - options.firstStep)) * (steps - run.step)
      await tell(entry, () => output.progress(entry, stepStatus(stats, steps, remaining)))
    } catch (error) {
      if (!(error instanceof MorError) || error.code !== 'NON_FINITE') throw error
      const entry = { type: 'refused', step: run.step, message: error.message }
      await tell(entry, () => output.event(entry, `step ${run.step + 1} refused: ${error.message}`))
      if (++refused < MAX_REFUSED_STEPS) continue
      run.savedStep = run.step
      await save(run.step) // with the place in the data after what was refused
      throw error
    }
    const { step } = run
    const last = step === steps
    if (validation && (last || step % evalEvery === 0)) {
      const { batchSize, evalBatches } = options
      const limits = { batchSize, maxBatches: evalBatches, routing: 'threshold', signal } as const
      const result = await (validation instanceof DatasetMix
        ? evaluateMix(trainer, validation, limits)
        : evaluateDataset(trainer, validation, limits))
      run.evaluation = result
      const entry = { type: 'evaluation', step, ...result }
      await tell(entry, () => output.event(entry, evaluationLine(step, result)))
    }
    if (last || step % saveEvery === 0) {
      run.savedStep = step
      await save(step)
    }
  }
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
    ...(stats.depthHistogram.length > 1 ? [`depths ${formatShares(stats.depthHistogram)}`] : []),
    `${formatDuration(remainingSeconds)} left`,
  ].join('  ')
}

function evaluationLine(step: number, { lmLoss, bitsPerByte, depthHistogram, datasets = [] }: Evaluation): string {
  const depths = depthHistogram.length > 1 ? `, depths ${formatShares(depthHistogram)}` : ''
  const each = datasets.map(({ dataset, lmLoss }) => `${dataset} ${lmLoss.toFixed(4)}`).join(', ')
  const parts = each === '' ? '' : ` (${each})`
  return `step ${step}: validation loss ${lmLoss.toFixed(4)}${parts}, ${bitsPerByte.toFixed(2)} bits per byte${depths}`
}
