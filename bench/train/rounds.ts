// Runs the rounds of the training bench: chooses batches and their order, and measures tokens per second.
import type { Contender } from '../lib/contender.js'
import { median } from '../lib/statistics.js'
import { buildPytorch, type OurStepAnswer, type Precision, precisions, type StepAnswer } from './contenders.js'
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
}

const largestBatch = 64

/**
 * Leaves `pytorch` with its models built in the precision in which it trains the MoR model fastest. Precisions less than
 * half as fast as the best at batch 1 are dropped; the others are compared in turns at batch 4.
 */
export async function choosePrecision(
  pytorch: Contender,
): Promise<{ best: Precision; rates: Map<Precision, { batch: number; tokensPerSecond: number[] }> }> {
  const rates = new Map<Precision, { batch: number; tokensPerSecond: number[] }>()
  for (const precision of precisions) {
    await buildPytorch(pytorch, precision, 'mor', precision)
    rates.set(precision, { batch: 1, tokensPerSecond: [(await rate(pytorch, precision, 1, 2, 0)).tokensPerSecond] })
  }
  const fastest = Math.max(...[...rates.values()].map(({ tokensPerSecond }) => tokensPerSecond[0]!))
  const close = precisions.filter((precision) => rates.get(precision)!.tokensPerSecond[0]! > fastest / 2)
  for (const precision of close) rates.set(precision, { batch: 4, tokensPerSecond: [] })
  for (let round = 0; round < 3; round++) {
    for (const precision of close) {
      const { batch, tokensPerSecond } = rates.get(precision)!
      tokensPerSecond.push((await rate(pytorch, precision, batch, 2, round)).tokensPerSecond)
    }
  }
  const middle = (precision: Precision): number => median(rates.get(precision)!.tokensPerSecond)
  const best = close.reduce((a, b) => (middle(b) > middle(a) ? b : a))
  for (const model of modelNames) await buildPytorch(pytorch, model, model, best)
  return { best, rates }
}

/** 1, 2, 4, … until two batches in a row gain the rival less than 2%, so that its best one is among them. */
export async function chooseBatches(pytorch: Contender): Promise<number[]> {
  const batches: number[] = []
  let best = 0
  let withoutGain = 0
  for (let batch = 1; batch <= largestBatch && withoutGain < 2; batch *= 2) {
    batches.push(batch)
    const { tokensPerSecond } = await rate(pytorch, 'mor', batch, 2, 0)
    withoutGain = tokensPerSecond < 1.02 * best ? withoutGain + 1 : 0
    best = Math.max(best, tokensPerSecond)
  }
  return batches
}

/** Each round measures every contender with every model and batch in turn, so that drift of the machine affects all alike. */
export async function runRounds(
  contenders: Record<ContenderName, Contender>,
  batches: readonly number[],
  rounds: number,
): Promise<Rounds> {
  const series: Series[] = batches.flatMap((batch) =>
    modelNames.flatMap((model) =>
      contenderNames.map((contender) => ({ contender, model, batch, tokensPerSecond: [] as number[] })),
    ),
  )
  const eventLoopDelays: number[] = []
  const flopsPerToken = {} as Record<ModelName, number>
  for (let round = 0; round < rounds; round++) {
    for (const { contender, model, batch, tokensPerSecond } of series) {
      const steps = Math.max(2, Math.ceil(8 / batch))
      const found = await rate(contenders[contender], model, batch, steps, round + 1)
      tokensPerSecond.push(found.tokensPerSecond)
      if (contender === 'pytorch') continue
      const answer = found.answer as OurStepAnswer
      eventLoopDelays.push(answer.eventLoopDelay)
      flopsPerToken[model] = answer.flops / (batch * length)
    }
  }
  return { series, eventLoopDelays, flopsPerToken }
}

/** The series of a contender and model with the highest median. */
export function fastest(series: readonly Series[], contender: ContenderName, model: ModelName): Series {
  const own = series.filter((one) => one.contender === contender && one.model === model)
  return own.reduce((a, b) => (median(b.tokensPerSecond) > median(a.tokensPerSecond) ? b : a))
}

/** One untimed step, then the median of `steps`. */
async function rate(
  contender: Contender,
  name: string,
  batch: number,
  steps: number,
  seed: number,
): Promise<{ tokensPerSecond: number; answer: StepAnswer }> {
  const answer = await contender.ask<StepAnswer>('step', { name, batch, length, steps: steps + 1, seed })
  if (!Number.isFinite(answer.loss)) throw new Error(`${contender.description}: the loss of ${name} is ${answer.loss}`)
  return { tokensPerSecond: (batch * length) / median(answer.seconds.slice(1)), answer }
}
