// A short soak: some hundred random requests to `mor serve`, after which no request runs and no KV block is in use.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { saveTinyModel } from '../lib/server/tiny_model.js'
import { chatTemplate } from './plan.js'
import { startServer, type WatchedServer } from './server_process.js'
import { soak } from './soak.js'

let remove: () => Promise<void>
let server: WatchedServer
beforeAll(async () => {
  const model = await saveTinyModel()
  remove = model.remove
  await writeFile(join(model.folder, 'chat_template.jinja'), chatTemplate)
  server = await startServer(model.folder, 'tiny')
}, 60_000)
afterAll(async () => {
  await server.stop().finally(remove)
})

it('serves random requests, whatever their clients do', { timeout: 120_000 }, async () => {
  const { ends, failures, metrics } = await soak({
    url: server.url,
    model: 'tiny',
    requests: 400,
    concurrency: 32,
    seed: 1,
  })
  expect(failures).toEqual([])
  expect(ends.whole).toBeGreaterThan(200)
  expect(ends.left).toBeGreaterThan(20)
  expect(ends.refused).toBeGreaterThan(5)
  expect(metrics['vllm:num_requests_running']).toBe(0)
  expect(metrics['vllm:num_requests_waiting']).toBe(0)
  expect(metrics['vllm:kv_cache_usage_perc']).toBe(0)
  expect(metrics.mor_kv_cache_used_bytes).toBe(0)
})
