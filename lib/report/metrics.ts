// Reads metrics.jsonl: the measurements that `mor train` leaves (docs/report.md), each with what training had cost until then.
import { Checker } from '../check.js'
import { MorError } from '../errors.js'
import { fileLines } from '../file_lines.js'
import { tokensByDepth } from './series.js'

/** What training had cost when something was measured. */
export interface Cost {
  /** Predicted tokens. */
  tokens: number
  /** Executed floating-point operations, forward and backward. */
  flops: number
  /** Of the steps alone, without evaluations and checkpoints. */
  seconds: number
}

/** What a step, or an evaluation on held-out text, measured. NaN stands for a value that is null or no finite number. */
export interface Measurement extends Cost {
  step: number
  /** Mean cross-entropy, nats per token. */
  lmLoss: number
  /** How many tokens ran 0, 1, … N recursions. */
  tokensByDepth: number[]
}

export interface StepMeasurement extends Measurement {
  /** NaN also where the router has none. */
  routingAccuracy: number
}

export interface EvaluationMeasurement extends Measurement {
  bitsPerByte: number
}

export interface RunMetrics {
  /** In the order of the file, as the next. */
  steps: StepMeasurement[]
  evaluations: EvaluationMeasurement[]
  /** Steps that were refused for a loss that was not finite. */
  refused: number
  /** Losses that are no finite numbers. */
  missingLosses: number
  /** How many steps have no line, and the first step whose cost is too low for that; null where none is missing. */
  missing: { steps: number; from: number } | null
}

/** Lines of other types are skipped. Throws what `readRecords` throws, and CHECKPOINT_INVALID for values that are no measurements. */
export async function readMetrics(path: string, signal: AbortSignal): Promise<RunMetrics> {
  const metrics: RunMetrics = { steps: [], evaluations: [], refused: 0, missingLosses: 0, missing: null }
  const cost: Cost = { tokens: 0, flops: 0, seconds: 0 }
  for await (const { record } of readRecords(path, signal)) addRecord(record, cost, metrics)
  return metrics
}

/**
 * The objects of the file, each with file and line. The last line may be incomplete, as a process leaves it that was killed; then it
 * counts as absent.
 * @throws {MorError} CHECKPOINT_INVALID naming file and line for what is no object; IO_ERROR, ABORTED
 */
export async function* readRecords(
  path: string,
  signal: AbortSignal,
): AsyncGenerator<{ record: Checker; where: string }> {
  let number = 0
  for await (const { text, ended } of fileLines(path, signal)) {
    const where = `${path}, line ${++number}`
    const record = readRecord(text, where, ended)
    if (record !== null) yield { record, where }
  }
}

/** Null for a blank line, and for a last one that is incomplete. */
function readRecord(text: string, where: string, ended: boolean): Checker | null {
  if (text.trim() === '') return null
  try {
    return Checker.of(JSON.parse(text), where, 'CHECKPOINT_INVALID')
  } catch (error) {
    if (error instanceof MorError) throw error
    if (!ended) return null
    const problem = `${where} is not JSON: ${(error as Error).message}`
    const advice = 'delete the line if the rest of the run is sound'
    const effect = 'without a step, tokens, FLOPs and seconds are too low from there on'
    throw new MorError('CHECKPOINT_INVALID', `${problem}; ${advice}: ${effect}`, { cause: error })
  }
}

function addRecord(record: Checker, cost: Cost, metrics: RunMetrics): void {
  const { type, lmLoss, tokens, depthHistogram, routingAccuracy, bitsPerByte } = record.object
  if (typeof type !== 'string') record.fail('type is missing; it must say what the line records, such as "step"')
  if (type === 'refused') metrics.refused++
  if (type !== 'step' && type !== 'evaluation') return
  const step = record.integer('step', { min: 0, max: Number.MAX_SAFE_INTEGER })
  const before = metrics.steps.at(-1)?.step ?? -1
  if (step < before || (type === 'step' && step === before)) {
    record.fail(`step is ${step}, after a line of step ${before}; the lines of a run stand in the order of its steps`)
  }
  if (type === 'step') {
    cost.tokens += record.number('tokens', { min: 0 })
    cost.flops += record.number('flops', { min: 0 })
    cost.seconds += record.number('seconds', { min: 0 })
  }
  const measured = { step, ...cost, lmLoss: numberOrNaN(lmLoss), tokensByDepth: byDepth(depthHistogram, tokens) }
  if (Number.isNaN(measured.lmLoss)) metrics.missingLosses++
  if (type === 'step') metrics.steps.push({ ...measured, routingAccuracy: numberOrNaN(routingAccuracy) })
  else metrics.evaluations.push({ ...measured, bitsPerByte: numberOrNaN(bitsPerByte) })
  const missing = step - metrics.steps.length
  if (missing > 0) metrics.missing = { steps: missing, from: metrics.missing?.from ?? step }
}

/** With the tokens that ran no recursion, which the histogram leaves out. */
function byDepth(histogram: unknown, tokens: unknown): number[] {
  if (!Array.isArray(histogram)) return []
  return tokensByDepth(histogram.map(numberOrNaN), typeof tokens === 'number' ? tokens : undefined)
}

/** JSON has no NaN: where a loss was not finite, the file holds null. */
function numberOrNaN(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : Number.NaN
}
