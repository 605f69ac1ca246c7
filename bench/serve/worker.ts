// Our contender in the serve bench: one model a process, served through the public API, over the line protocol.
// Must not know the rival or the order of the rounds.
import { setTimeout } from 'node:timers/promises'
import { Engine, type EngineStats, Model, type ModelConfig } from '../../lib/index.js'
import { serveLines } from '../lib/serve_lines.js'
import { type Load, putLoad } from './load.js'
import { type ServeRequest, workload } from './workload.js'

export interface ServeAnswer extends Load {
  /** Of this run alone; a new engine served it. */
  stats: EngineStats
  /** At the moment when the running requests held most. */
  kvBytes: number
  kvBytesVanilla: number
}

const calibrationRequests = 64
const sampleInterval = 50 // milliseconds between looks at the KV cache

let model: Model
let routerThreshold: number | undefined

/** `meanDepth`: how deep the router shall send its tokens on average; null for models without one. */
async function build(request: { config: ModelConfig; threads: number; meanDepth: number | null }) {
  model = await Model.create(request.config, { device: 'cpu', threads: request.threads, seed: 1 })
  if (request.meanDepth !== null) routerThreshold = await thresholdFor(request.meanDepth)
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
  const routing = routerThreshold === undefined ? {} : { routerThreshold }
  let most = { kvBytesUsed: 0, kvBytesVanilla: 0 }
  const timer = setInterval(() => {
    const { kvBytesUsed, kvBytesVanilla } = engine.stats()
    if (kvBytesUsed > most.kvBytesUsed) most = { kvBytesUsed, kvBytesVanilla }
  }, sampleInterval)
  const load = await putLoad(request.requests, ({ prompt, maxTokens }) =>
    engine.generate(prompt, { maxTokens, temperature, seed: maxTokens, stop: [], ...routing }),
  )
  clearInterval(timer)
  // The last token is told before the step that made it has been counted.
  while (engine.stats().running > 0) await setTimeout(1)
  return { ...load, stats: engine.stats(), kvBytes: most.kvBytesUsed, kvBytesVanilla: most.kvBytesVanilla }
}

/** Mean depth falls from N to 1 while the threshold rises from 0 to 1: bisection on a part of the workload. */
async function thresholdFor(meanDepth: number): Promise<number> {
  const requests = workload(calibrationRequests, model.config.vocab_size, 0)
  let [low, high] = [0, 1]
  for (let step = 0; step < 8; step++) {
    routerThreshold = (low + high) / 2
    const { stats } = await serve({ requests, maxBatchSize: calibrationRequests, kvCacheBytes: 0, temperature: 1 })
    const passes = stats.depthHistogram.reduce((sum, count, r) => sum + count * (r + 1), 0)
    if (passes > meanDepth * (stats.promptTokens + stats.tokensGenerated - stats.finished)) low = routerThreshold
    else high = routerThreshold
  }
  return (low + high) / 2
}

void serveLines('mixture-of-recursions', { build, save, serve })
