// Runs the rounds of the training bench: chooses batches and their order, and measures tokens per second.
import type { Contender } from '../lib/contender.js'
import { showProgress } from '../lib/progress.js'
import { median } from '../lib/statistics.js'
import {
  buildPytorch,
  type OurStepAnswer,
  type Precision,
  precisions,
  type StepAnswer,
  type StepRequest,
} from './contenders.js'
import { length, type ModelName, modelNames } from './shapes.js'

export const contenderNames = ['ours', 'pytorch'] as const
export type ContenderName = (typeof contenderNames)[number]

/** Tokens per second of one contender with one model at one batch, one value for each round. */
export interface Series {
  contender: ContenderName
  model: ModelName
  batch: number
  tokensPerSecond: number[]
}

export interface Rounds {
  series: Series[]
  /** 99th percentile in milliseconds, one value for each series of our steps. */
  eventLoopDelays: number[]
  /** FLOPs per token of our step as the trainer counts them, by model. */
  flopsPerToken: Record<ModelName, number>
  /** Why PyTorch has no series; undefined where it has. */
  lost?: string
}

/** Tokens per second at a batch, one value for each measurement. */
export interface Rate {
  batch: number
  tokensPerSecond: number[]
}

/** What PyTorch is measured with. */
export interface Choice {
  pytorch: Contender
  best: Precision
  rates: Map<Precision, Rate>
  /** The precisions that failed or were hopeless, and why. */
  dropped: Map<Precision, string>
}

const largestBatch = 64
/** Seconds. No batch is tried whose step is expected to take longer, so that a round ends within minutes anywhere. */
const longestStep = 6
/** Seconds in which a measurement begins steps. */
const longestMeasurement = 12
/** Seconds that the first precision has for three steps at batch 1. */
const firstPatience = 30

/**
 * Starts PyTorch and leaves it with its models built in the precision in which it trains the MoR model fastest. Precisions
 * less than half as fast as the best at batch 1 are dropped; if several remain, they are compared in turns at batch 4. One
 * that fails, or takes several times as long as the best before it, is dropped too: the process is ended and started again.
 * @throws {Error} if PyTorch does not start or no precision is left.
 */
export async function choosePrecision(
  start: () => Promise<Contender>,
  candidates: readonly Precision[] = precisions,
): Promise<Choice> {
  const rates = new Map<Precision, Rate>()
  const dropped = new Map<Precision, string>()
  let pytorch = await start()
  let patience = firstPatience
  for (const precision of candidates) {
    showProgress(`PyTorch in ${precision}`)
    try {
      await buildPytorch(pytorch, precision, 'mor', precision)
      const { tokensPerSecond, answer } = await rate(pytorch, precision, 1, 2, 0, patience)
      rates.set(precision, { batch: 1, tokensPerSecond: [tokensPerSecond] })
      const seconds = answer.seconds.reduce((sum, value) => sum + value, 0)
      patience = Math.min(patience, 5 + 4 * seconds)
    } catch (error) {
      dropped.set(precision, messageOf(error))
      await pytorch.kill()
      pytorch = await start()
    }
  }
  if (rates.size === 0) {
    await pytorch.kill()
    throw new Error([...dropped].map(([precision, why]) => `${precision}: ${why}`).join('; ') || 'no precision is left')
  }
  const fastest = Math.max(...[...rates.values()].map(({ tokensPerSecond }) => tokensPerSecond[0]!))
  const close = [...rates.keys()].filter((precision) => rates.get(precision)!.tokensPerSecond[0]! > fastest / 2)
  if (close.length > 1) await compare(pytorch, close, rates)
  const middle = (precision: Precision): number => median(rates.get(precision)!.tokensPerSecond)
  const best = close.reduce((a, b) => (middle(b) > middle(a) ? b : a))
  for (const model of modelNames) await buildPytorch(pytorch, model, model, best)
  return { pytorch, best, rates, dropped }
}

/** Replaces the rates of precisions by those at batch 4, measured in turns. */
async function compare(pytorch: Contender, close: readonly Precision[], rates: Map<Precision, Rate>): Promise<void> {
  for (const precision of close) {
    rates.set(precision, { batch: 4, tokensPerSecond: [] })
    await buildPytorch(pytorch, precision, 'mor', precision)
  }
  for (let round = 0; round < 3; round++) {
    for (const precision of close) {
      const { batch, tokensPerSecond } = rates.get(precision)!
      tokensPerSecond.push((await rate(pytorch, precision, batch, 2, round)).tokensPerSecond)
    }
  }
}

/**
 * 1, 2, 4, … until two batches in a row gain `contender` less than 2%, so that its best one is among them, or a step would
 * take too long.
 */
export async function chooseBatches(contender: Contender): Promise<number[]> {
  const batches: number[] = []
  let [best, withoutGain, expected] = [0, 0, 0]
  for (let batch = 1; batch <= largestBatch && withoutGain < 2 && expected <= longestStep; batch *= 2) {
    showProgress(`${contender.description} at batch ${batch}`)
    batches.push(batch)
    const { tokensPerSecond } = await rate(contender, 'mor', batch, 2, 0)
    expected = (2 * batch * length) / tokensPerSecond
    withoutGain = tokensPerSecond < 1.02 * best ? withoutGain + 1 : 0
    best = Math.max(best, tokensPerSecond)
  }
  return batches
}

/**
 * Each round measures every contender with every model and batch in turn, so that drift of the machine affects all alike. If
 * PyTorch is missing or fails, only ours has series.
 */
export async function runRounds(
  contenders: { ours: Contender; pytorch?: Contender },
  batches: readonly number[],
  rounds: number,
): Promise<Rounds> {
  const names = contenderNames.filter((name) => contenders[name] !== undefined)
  const series: Series[] = batches.flatMap((batch) =>
    modelNames.flatMap((model) =>
      names.map((contender) => ({ contender, model, batch, tokensPerSecond: [] as number[] })),
    ),
  )
  const eventLoopDelays: number[] = []
  const flopsPerToken = {} as Record<ModelName, number>
  let lost: string | undefined
  for (let round = 0; round < rounds; round++) {
    for (const { contender, model, batch, tokensPerSecond } of series) {
      if (contender === 'pytorch' && lost !== undefined) continue
      showProgress(`round ${round + 1} of ${rounds}: ${contender}, ${model}, batch ${batch}`)
      const steps = Math.max(2, Math.ceil(8 / batch))
      const measured = rate(contenders[contender]!, model, batch, steps, round + 1)
      if (contender === 'pytorch') {
        await measured.then(
          (found) => tokensPerSecond.push(found.tokensPerSecond),
          (error) => {
            lost = messageOf(error)
          },
        )
        continue
      }
      const found = await measured
      tokensPerSecond.push(found.tokensPerSecond)
      const answer = found.answer as OurStepAnswer
      eventLoopDelays.push(answer.eventLoopDelay)
      flopsPerToken[model] = answer.flops / (batch * length)
    }
  }
  const whole = lost === undefined ? series : series.filter(({ contender }) => contender === 'ours')
  return { series: whole, eventLoopDelays, flopsPerToken, lost }
}

/** The series of a contender and model with the highest median. */
export function fastest(series: readonly Series[], contender: ContenderName, model: ModelName): Series {
  const own = series.filter((one) => one.contender === contender && one.model === model)
  return own.reduce((a, b) => (median(b.tokensPerSecond) > median(a.tokensPerSecond) ? b : a))
}

/** One untimed step, then the median of `steps`, or of fewer where they take long. @param patience in seconds */
async function rate(
  contender: Contender,
  name: string,
  batch: number,
  steps: number,
  seed: number,
  patience = 300,
): Promise<{ tokensPerSecond: number; answer: StepAnswer }> {
  const request: StepRequest = { name, batch, length, steps: steps + 1, limit: longestMeasurement, seed }
  const answer = await contender.ask<StepAnswer>('step', request, patience)
  if (!Number.isFinite(answer.loss)) throw new Error(`${contender.description}: the loss of ${name} is ${answer.loss}`)
  return { tokensPerSecond: (batch * length) / median(answer.seconds.slice(1)), answer }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
