// Serves requests by one model through the public API, and counts what it did.
import { setTimeout } from 'node:timers/promises'
import { type CreateOptions, Engine, type EngineStats, Model, type ModelConfig } from '../../lib/index.js'
import { createWithDepthsById } from './depth_checkpoint.js'
import { type Load, putLoad } from './load.js'
import type { ServeRequest } from './workload.js'

export interface ServeAnswer extends Load {
  /** Counts of this run alone, since a new engine served it. */
  stats: EngineStats
  /** Running requests, as a mean over time. */
  running: number
  /** Bytes at the moment when the running requests held most. */
  kvBytes: number
  kvBytesVanilla: number
}

export interface ServeOptions {
  requests: ServeRequest[]
  maxBatchSize: number
  kvCacheBytes: number
  temperature: number
}

const sampleInterval = 50 // milliseconds between samples of the engine's state

/** A router, if there is one, is set so that a token's id decides its depth. */
export async function buildModel(config: ModelConfig, options: CreateOptions): Promise<Model> {
  return config.router ? await createWithDepthsById(config, options) : await Model.create(config, options)
}

/** A fresh engine serves `requests`. At temperature 1 the freshly initialised model draws from the whole vocabulary. */
export async function serveRequests(model: Model, options: ServeOptions): Promise<ServeAnswer> {
  const { requests, maxBatchSize, kvCacheBytes, temperature } = options
  await using engine = new Engine(model, { maxBatchSize, kvCacheBytes })
  let most = { kvBytesUsed: 0, kvBytesVanilla: 0 }
  let [looks, running] = [0, 0]
  const timer = setInterval(() => {
    const { kvBytesUsed, kvBytesVanilla, ...stats } = engine.stats()
    looks++
    running += stats.running
    if (kvBytesUsed > most.kvBytesUsed) most = { kvBytesUsed, kvBytesVanilla }
  }, sampleInterval)
  const load = await putLoad(requests, ({ prompt, maxTokens }) =>
    engine.generate(prompt, { maxTokens, temperature, seed: maxTokens, ignoreEos: true }),
  ).finally(() => clearInterval(timer))
  // The last token arrives before its step has been counted.
  while (engine.stats().running > 0) await setTimeout(1)
  return {
    ...load,
    stats: engine.stats(),
    running: running / looks,
    kvBytes: most.kvBytesUsed,
    kvBytesVanilla: most.kvBytesVanilla,
  }
}
