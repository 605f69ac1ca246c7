// The soak at full size: `npm run soak -- [requests]`, 10,000 by default. Exits with 1 if anything went wrong.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { saveTinyModel } from '../lib/server/tiny_model.js'
import { chatTemplate } from './plan.js'
import { startServer, type WatchedServer } from './server_process.js'
import { soak } from './soak.js'

/**
 * How much the peak of memory may grow from the first half of the requests to the last quarter: peaks of a heap vary by
 * about as much without a leak.
 */
const FLAT = 1.1

/** With fewer requests, memory would be measured too seldom in each part of the load. */
const FEWEST_REQUESTS = 400

async function main(requests: number): Promise<void> {
  if (!Number.isSafeInteger(requests) || requests < FEWEST_REQUESTS)
    throw new RangeError(`requests is ${process.argv[2]}; it must be an integer of at least ${FEWEST_REQUESTS}`)
  const { folder, remove } = await saveTinyModel()
  try {
    await writeFile(join(folder, 'chat_template.jinja'), chatTemplate)
    const server = await startServer(folder, 'tiny')
    await measure(server, requests).finally(server.stop)
  } finally {
    await remove()
  }
}

async function measure(server: WatchedServer, requests: number): Promise<void> {
  const resident: Promise<number>[] = []
  const every = Math.ceil(requests / 40)
  const load = { url: server.url, model: 'tiny', concurrency: 64 }
  // Lets the heap grow to the size that this load needs.
  const warmUp = await soak({ ...load, requests: Math.ceil(requests / 2), seed: 1 })
  const { seconds, ends, metrics, ...measured } = await soak({
    ...load,
    requests,
    seed: 2,
    onProgress: (ended) => {
      if (ended % every === 0) resident.push(server.residentMegabytes())
    },
  })
  const failures = [...warmUp.failures, ...measured.failures]
  const memory = await Promise.all(resident)
  const early = Math.max(...memory.slice(0, 20))
  const late = Math.max(...memory.slice(30))
  const left = [
    'vllm:num_requests_running',
    'vllm:num_requests_waiting',
    'vllm:kv_cache_usage_perc',
    'mor_kv_cache_used_bytes',
  ].filter((name) => metrics[name] !== 0)
  for (const failure of failures.slice(0, 10)) console.log(`failed: ${failure}`)
  for (const name of left) console.log(`not given back: ${name} is ${metrics[name]}`)
  if (late > FLAT * early) console.log(`the peak of memory grew from ${early.toFixed(1)} MB to ${late.toFixed(1)} MB`)
  const tokens = metrics['vllm:generation_tokens_total']
  console.log(
    JSON.stringify({ requests, seconds, ...ends, failures: failures.length, tokens, peakMegabytes: { early, late } }),
  )
  if (failures.length > 0 || left.length > 0 || late > FLAT * early) process.exitCode = 1
}

main(Number(process.argv[2] ?? 10_000))
