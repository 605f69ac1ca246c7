// Our contender in the serve bench: a process that serves one model through the public API, over the line protocol.
import { setTimeout } from 'node:timers/promises'
import { Engine, type EngineStats, Model, type ModelConfig } from '../../lib/index.js'
import { serveLines } from '../lib/serve_lines.js'
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

const sampleInterval = 50 // milliseconds between samples of the engine's state

let model: Model

/** A router, if there is one, is set so that a token's id decides its depth. */
async function build({ config, threads }: { config: ModelConfig; threads: number }) {
  const options = { device: 'cpu', threads, seed: 1 } as const
  model = config.router ? await createWithDepthsById(config, options) : await Model.create(config, options)
  return {}
}

async function save(request: { folder: string }) {
  await model.save(request.folder)
  return {}
}

/** A fresh engine serves `requests`. At temperature 1 the freshly initialised model draws from the whole vocabulary. */
async function serve(request: {
  requests: ServeRequest[]
  maxBatchSize: number
  kvCacheBytes: number
  temperature: number
}): Promise<ServeAnswer> {
  const { maxBatchSize, kvCacheBytes, temperature } = request
  await using engine = new Engine(model, { maxBatchSize, kvCacheBytes })
  let most = { kvBytesUsed: 0, kvBytesVanilla: 0 }
  let [looks, running] = [0, 0]
  const timer = setInterval(() => {
    const { kvBytesUsed, kvBytesVanilla, ...stats } = engine.stats()
    looks++
    running += stats.running
    if (kvBytesUsed > most.kvBytesUsed) most = { kvBytesUsed, kvBytesVanilla }
  }, sampleInterval)
  const load = await putLoad(request.requests, ({ prompt, maxTokens }) =>
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

void serveLines('mixture-of-recursions', { build, save, serve })
