// What the serve bench measures again each round: models, their batches and their memory, and what speed came out.
// Must not know how a contender generates or what is said of it.
import type { Load } from './load.js'
import { type ModelName, modelNames, vanillaKvBytesPerToken } from './shapes.js'
import type { ServeAnswer } from './worker.js'
import { contextSize, requestCount } from './workload.js'

/** One way to run one model; an answer a run. */
export interface Series {
  model: ModelName
  maxBatchSize: number
  kvCacheBytes: number
  requests: number
  answers: ServeAnswer[]
}

/** Up to saturation: from 64 on, vanilla and MoR gain little. Every model runs at the last. */
const sweptBatches = [8, 32, 64, 128]
const sweptModels: readonly ModelName[] = ['vanilla', 'mor4']
export const equalBatch = sweptBatches.at(-1)!

export function newSweep(): Series[] {
  return sweptBatches.flatMap((maxBatchSize) => {
    const names = maxBatchSize === equalBatch ? modelNames : sweptModels
    // As many for each place, so that the time when a batch runs empty counts the same at every size.
    const requests = (requestCount * maxBatchSize) / equalBatch
    // A router makes the engine hold twice as many requests as run in one pass; memory shall not limit them.
    const kvCacheBytes = bytesFor(4 * maxBatchSize)
    return names.map((model) => ({ model, maxBatchSize, kvCacheBytes, requests, answers: [] }))
  })
}

/** Two models on the same requests with a cache of the same size, which bounds how many run at a time. */
export interface EqualMemory {
  /** Vanilla sequences of mean length, prompt and generated tokens, that the cache holds. */
  sequences: number
  kvCacheBytes: number
  /** Runs of each model in a round, in turn. */
  pairs: number
  vanilla: Series
  mor4: Series
}

/**
 * The less memory, the longer a pass waits for weights instead of computing, and the more it pays that a token takes less
 * room. So the least is where memory is the bound, and what it gives is measured most often.
 */
export function newEqualMemory(): EqualMemory[] {
  const sizes = [
    { sequences: 4, pairs: 2 },
    { sequences: 8, pairs: 1 },
    { sequences: 16, pairs: 1 },
  ]
  const requestsPerSequence = 12
  return sizes.map(({ sequences, pairs }) => {
    const kvCacheBytes = bytesFor(sequences)
    const series = (model: ModelName): Series => {
      const requests = requestsPerSequence * sequences
      return { model, maxBatchSize: requests, kvCacheBytes, requests, answers: [] }
    }
    return { sequences, kvCacheBytes, pairs, vanilla: series('vanilla'), mor4: series('mor4') }
  })
}

/** Room for so many vanilla sequences of mean length. */
export function bytesFor(sequences: number): number {
  return sequences * (contextSize / 2) * vanillaKvBytesPerToken
}

/** The rival has as many places as its largest load: `requests`, `concurrency` of them under way at once. */
export interface RivalSeries {
  concurrency: number
  requests: number
  ours: Load[]
  theirs: Load[]
}

export function newRivals(): RivalSeries[] {
  const loads = [
    { concurrency: 1, requests: 4 },
    { concurrency: 8, requests: 16 },
    { concurrency: 64, requests: 64 },
  ]
  return loads.map((load) => ({ ...load, ours: [], theirs: [] }))
}

export function tokensPerSecond(loads: readonly Load[]): number[] {
  return loads.map(({ tokens, seconds }) => tokens / seconds)
}

/** Run by run: `of` made so many times the tokens/s of `over`. */
export function speedUps(of: readonly Load[], over: readonly Load[]): number[] {
  const slow = tokensPerSecond(over)
  return tokensPerSecond(of).map((rate, run) => rate / slow[run]!)
}
