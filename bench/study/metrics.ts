// What metrics.jsonl of a run says as a whole.
import { readRecords } from '../../lib/report/metrics.js'
import { meanDepth, tokensByDepth } from '../../lib/report/series.js'
import { median } from '../lib/statistics.js'

/** Training as a whole. Losses are nats per token. */
export interface Training {
  steps: number
  tokens: number
  /** Executed, forward and backward, teacher included. */
  flops: number
  /** Median of the steps times their number, so that pauses and other work on the machine do not count. */
  seconds: number
  tokensPerSecond: number
  /** The largest of all steps, as the trainer counts it. */
  peakMemoryBytes: number
  /** Mean over the last twentieth of the steps. */
  loss: number
  distillationLoss: number
  /** Share of routing decisions; null without a router, and where training selects by the threshold itself. */
  routingAccuracy: number | null
  /** Recursions of a token of training; null without a router. */
  meanDepth: number | null
  /** Recursions of a held-out token at the end, by the threshold; null likewise, and absent in results from before it was kept. */
  heldOutDepth?: number | null
  curve: CurvePoint[]
}

/** A mean over the steps since the point before. */
export interface CurvePoint {
  step: number
  tokens: number
  flops: number
  loss: number
}

interface Step {
  type: 'step'
  step: number
  lmLoss: number
  distillationLoss: number
  tokens: number
  flops: number
  seconds: number
  memoryBytes: number
  routingAccuracy: number | null
  depthHistogram: number[]
}

interface Evaluation {
  type: 'evaluation'
  routing: 'threshold' | 'topk'
  tokens: number
  depthHistogram: number[]
}

const curvePoints = 100

/**
 * @throws {Error} if the file has no step or lacks one, or if a step was refused because its loss was not finite: naming file and
 * line; what `readRecords` throws
 */
export async function summarizeMetrics(file: string, signal: AbortSignal): Promise<Training> {
  const { steps, evaluations } = await readSteps(file, signal)
  if (steps.length === 0 || steps.at(-1)!.step !== steps.length) {
    throw new Error(`${file} has ${steps.length} steps, and the last one is ${steps.at(-1)?.step}: one is missing`)
  }
  const sum = (value: (step: Step) => number, of = steps) => of.reduce((total, step) => total + value(step), 0)
  const last = steps.slice(-Math.ceil(steps.length / 20))
  const mean = (value: (step: Step) => number) => sum(value, last) / last.length
  const secondsPerToken = median(steps.map(({ seconds, tokens }) => seconds / tokens))
  const tokens = sum((step) => step.tokens)
  const recursions = last[0]!.depthHistogram.length
  const evaluation = evaluations.at(-1)
  return {
    steps: steps.length,
    tokens,
    flops: sum((step) => step.flops),
    seconds: secondsPerToken * tokens,
    tokensPerSecond: 1 / secondsPerToken,
    peakMemoryBytes: Math.max(...steps.map((step) => step.memoryBytes)),
    loss: mean((step) => step.lmLoss),
    distillationLoss: mean((step) => step.distillationLoss),
    routingAccuracy: last.some((step) => step.routingAccuracy === null) ? null : mean((step) => step.routingAccuracy!),
    meanDepth: recursions === 1 ? null : mean(depthOf),
    heldOutDepth: recursions === 1 || evaluation === undefined ? null : depthOf(evaluation),
    curve: curveOf(steps),
  }
}

const depthOf = ({ depthHistogram, tokens }: Step | Evaluation) => meanDepth(tokensByDepth(depthHistogram, tokens))

function curveOf(steps: readonly Step[]): CurvePoint[] {
  const size = Math.ceil(steps.length / curvePoints)
  const points: CurvePoint[] = []
  let [tokens, flops] = [0, 0]
  for (let begin = 0; begin < steps.length; begin += size) {
    const part = steps.slice(begin, begin + size)
    for (const step of part) {
      tokens += step.tokens
      flops += step.flops
    }
    const loss = part.reduce((total, step) => total + step.lmLoss, 0) / part.length
    points.push({ step: part.at(-1)!.step, tokens, flops, loss: Number(loss.toFixed(4)) })
  }
  return points
}

async function readSteps(file: string, signal: AbortSignal): Promise<{ steps: Step[]; evaluations: Evaluation[] }> {
  const steps: Step[] = []
  const evaluations: Evaluation[] = []
  for await (const { record, where } of readRecords(file, signal)) {
    const entry = record.object as unknown as Step | Evaluation | { type: 'refused'; message: string }
    if (entry.type === 'refused')
      throw new Error(`${where}: a step was refused, so the run has no result: ${entry.message}`)
    if (entry.type === 'step') steps.push(entry)
    else if (entry.type === 'evaluation' && entry.routing === 'threshold') evaluations.push(entry)
  }
  return { steps, evaluations }
}
