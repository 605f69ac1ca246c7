// Serving by one model: many requests at once, with memory enough for all and with as much as a few of vanilla take.
import type { DeviceOption, EngineStats, ModelConfig } from '../../lib/index.js'
import { randomTokens } from '../lib/random_tokens.js'
import { median } from '../lib/statistics.js'
import { buildModel, serveRequests } from '../serve/serve_requests.js'
import type { ServeRequest } from '../serve/workload.js'
import type { Common, Find } from './findings.js'

export interface ServeCase {
  /** Of the figures. */
  name: string
  config: ModelConfig
  requests: { count: number; shortest: number; longest: number }
  /** Caches of keys and values by the name in figures. */
  caches: Record<string, number>
}

/** Of the last run with each cache. */
export type ServeFact = Record<string, { tokensPerSecond: number; stats: EngineStats }>

export async function serve(request: ServeCase & Common, find: Find): Promise<void> {
  const { name, config, caches, device, rounds } = request
  await using model = await buildModel(config, { device: device as DeviceOption, seed: 1 })
  const fact: ServeFact = {}
  for (const [cache, kvCacheBytes] of Object.entries(caches)) {
    const rates: number[] = []
    for (let round = 0; round <= rounds; round++) {
      const requests = workload(request.requests, config.vocab_size, round + 1)
      const options = { requests, maxBatchSize: requests.length, kvCacheBytes, temperature: 1 }
      const { tokens, seconds, stats } = await serveRequests(model, options)
      if (round === 0) continue // it warms up
      rates.push(tokens / seconds)
      fact[cache] = { tokensPerSecond: median(rates), stats }
      const note = `${requests.length} requests at once, prompts included, ${(kvCacheBytes / 1e6).toFixed(0)} MB of cache`
      find({ figure: `serve_${name}_${cache}`, values: rates, unit: 'tokens/s', note })
    }
  }
  find({ fact: name, value: fact })
}

/** Lengths of prompts and generations are uniformly distributed and the same for every `seed`; the prompts' ids depend on it. */
function workload(
  { count, shortest, longest }: ServeCase['requests'],
  vocabulary: number,
  seed: number,
): ServeRequest[] {
  const lengths = randomTokens(2 * count, longest - shortest + 1, 1)
  return Array.from({ length: count }, (_, i) => ({
    prompt: [...randomTokens(shortest + lengths[2 * i]!, vocabulary, seed * count + i + 1)],
    maxTokens: shortest + lengths[2 * i + 1]!,
  }))
}
