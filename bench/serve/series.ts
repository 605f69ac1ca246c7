// What the serve bench measures in each round: models, batch sizes, cache sizes, and the speeds.
import type { Load } from './load.js'
import type { ServeAnswer } from './serve_requests.js'
import { type ModelName, modelNames, vanillaKvBytesPerToken } from './shapes.js'
import { contextSize, requestCount } from './workload.js'

/** One way to run one model, with one answer for each run. */
export interface Series {
  model: ModelName
  maxBatchSize: number
  kvCacheBytes: number
  requests: number
  answers: ServeAnswer[]
}

/** Batch sizes up to saturation: from 64 on vanilla and MoR gain little. Every model runs at the last one. */
const sweptBatches = [8, 32, 64, 128]
const sweptModels: readonly ModelName[] = ['vanilla', 'mor4']
export const equalBatch = sweptBatches.at(-1)!

/**
 * What is measured in a round. `all` is for machines that serve some 400 tokens/s or more; `few` takes about a quarter of that
 * time: at fewer batch sizes, vanilla and mor4 alone, and the smallest cache alone.
 */
export type Extent = 'all' | 'few'

export function newSweep(extent: Extent): Series[] {
  const batches = extent === 'all' ? sweptBatches : [sweptBatches[0]!, equalBatch]
  return batches.flatMap((maxBatchSize) => {
    const names = maxBatchSize === equalBatch && extent === 'all' ? modelNames : sweptModels
    // The number of requests grows with the batch, so that the time in which a batch runs empty has the same share.
    const requests = (requestCount * maxBatchSize) / equalBatch
    // With a router the engine holds twice as many requests as run in one pass; memory must not limit them here.
    const kvCacheBytes = bytesFor(4 * maxBatchSize)
    return names.map((model) => ({ model, maxBatchSize, kvCacheBytes, requests, answers: [] }))
  })
}

/** Two models on the same requests with caches of the same size, which limits how many requests run at a time. */
export interface EqualMemory {
  /** How many vanilla sequences of mean length, prompt and generated tokens, the cache holds. */
  sequences: number
  kvCacheBytes: number
  /** How many runs each model has in a round, in turn. */
  pairs: number
  vanilla: Series
  mor4: Series
}

/**
 * With less memory a pass has fewer rows and waits longer for weights, so it helps more that a token takes less memory. The
 * smallest cache is where memory limits both models; it is measured most often.
 */
export function newEqualMemory(extent: Extent): EqualMemory[] {
  const sizes = [
    { sequences: 4, pairs: 2 },
    { sequences: 8, pairs: 1 },
    { sequences: 16, pairs: 1 },
  ]
  const requestsPerSequence = 12
  return sizes.slice(0, extent === 'all' ? undefined : 1).map(({ sequences, pairs }) => {
    const kvCacheBytes = bytesFor(sequences)
    const series = (model: ModelName): Series => {
      const requests = requestsPerSequence * sequences
      return { model, maxBatchSize: requests, kvCacheBytes, requests, answers: [] }
    }
    return { sequences, kvCacheBytes, pairs, vanilla: series('vanilla'), mor4: series('mor4') }
  })
}

/** The bytes of a cache for this many vanilla sequences of mean length. */
export function bytesFor(sequences: number): number {
  return sequences * (contextSize / 2) * vanillaKvBytesPerToken
}

/** The rival has as many sequences as its largest load; of `requests` requests `concurrency` are under way at once. */
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

/** The tokens/s of `of` divided by those of `over`, run by run. */
export function speedUps(of: readonly Load[], over: readonly Load[]): number[] {
  const slow = tokensPerSecond(over)
  return tokensPerSecond(of).map((rate, run) => rate / slow[run]!)
}
