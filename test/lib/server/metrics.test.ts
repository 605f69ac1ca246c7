// What /metrics shows: the engine's counts under vLLM's names, and latencies, reasons and depths of completions.
import { expect, it } from 'vitest'
import { answerText, ScriptedEngine } from './scripted_engine.js'
import { listen, post } from './tiny_model.js'

async function scrape(url: string): Promise<Map<string, number>> {
  const response = await fetch(`${url}/metrics`)
  expect(response.headers.get('content-type')).toContain('text/plain; version=0.0.4')
  const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]))
}

it('counts completions, tokens, depths and times', async () => {
  const engine = new ScriptedEngine(answerText('four', 'length'))
  await using server = await listen({ engine })
  expect((await post(server.url, { model: 'tiny', prompt: 'abc', n: 2, max_tokens: 4 })).status).toBe(200)
  const stopped = { model: 'tiny', prompt: 'abcdef', stop: 'o', stream: true, max_tokens: 7 }
  expect(await (await post(server.url, stopped)).text()).toContain('"text":"f"')

  const metrics = await scrape(server.url)
  const of = (name: string, labels = '') => metrics.get(`${name}{${labels}model_name="tiny"}`)
  expect(of('vllm:num_requests_running')).toBe(3)
  expect(of('vllm:num_requests_waiting')).toBe(2)
  expect(of('vllm:kv_cache_usage_perc')).toBe(0.25)
  expect(of('vllm:prompt_tokens_total')).toBe(30)
  expect(of('vllm:generation_tokens_total')).toBe(40)
  expect(of('vllm:prefix_cache_queries_total')).toBe(30)
  expect(of('vllm:prefix_cache_hits_total')).toBe(12)
  expect(of('vllm:num_preemptions_total')).toBe(5)
  expect(of('mor_kv_cache_cached_perc')).toBe(0.5)
  expect([1, 2, 3].map((depth) => of('mor_tokens_by_depth_total', `depth="${depth}",`))).toEqual([3, 2, 1])
  expect(of('vllm:request_success_total', 'finished_reason="length",')).toBe(2)
  expect(of('vllm:request_success_total', 'finished_reason="stop",')).toBe(1)
  expect(of('vllm:e2e_request_latency_seconds_count')).toBe(3)
  expect(of('vllm:time_to_first_token_seconds_count')).toBe(3)
  expect(of('vllm:inter_token_latency_seconds_count')).toBe(3 + 3 + 1)
  expect(of('vllm:request_time_per_output_token_seconds_count')).toBe(3)
  expect(of('vllm:request_prompt_tokens_sum')).toBe(3 + 3 + 6)
  expect(of('vllm:request_generation_tokens_sum')).toBe(4 + 4 + 2)
  expect(of('vllm:request_params_max_tokens_sum')).toBe(4 + 4 + 7)
  expect(of('mor_generated_token_depth_bucket', 'le="1",')).toBe(0)
  expect(of('mor_generated_token_depth_bucket', 'le="2",')).toBe(10)
  expect(of('mor_generated_token_depth_sum')).toBe(20)
})

it('keeps the counts of two servers apart, and of one between scrapes', async () => {
  const engine = new ScriptedEngine(answerText('x'))
  await using first = await listen({ engine })
  await using second = await listen({ engine })
  await post(first.url, { model: 'tiny', prompt: 'a' })
  const name = 'vllm:request_success_total{finished_reason="stop",model_name="tiny"}'
  expect((await scrape(first.url)).get(name)).toBe(1)
  expect((await scrape(first.url)).get(name)).toBe(1)
  expect((await scrape(first.url)).get('vllm:prompt_tokens_total{model_name="tiny"}')).toBe(30)
  expect((await scrape(second.url)).get(name)).toBeUndefined()
})

it('counts ignored fields by the API that they belong to', async () => {
  await using server = await listen({ engine: new ScriptedEngine(answerText('x')) })
  const body = { model: 'tiny', prompt: 'a', temprature: 1, verbosity: 'low', bad_words: [], best: 1, store: true }
  expect((await post(server.url, body)).status).toBe(200)
  const metrics = await scrape(server.url)
  const counted = ['openai', 'vllm', 'unknown'].map((name) =>
    metrics.get(`mor_ignored_fields_total{class="${name}",model_name="tiny"}`),
  )
  expect(counted).toEqual([1, 1, 2])
})

it('refuses them where the server is strict', async () => {
  await using server = await listen({ engine: new ScriptedEngine(answerText('x')), strict: true })
  const refused = await post(server.url, { model: 'tiny', prompt: 'a', temprature: 1 })
  expect(refused.status).toBe(400)
  expect(await refused.json()).toMatchObject({
    error: { param: 'temprature', message: expect.stringContaining('did you mean "temperature"') },
  })
  expect((await post(server.url, { model: 'tiny', prompt: 'a', store: true, user: 'me' })).status).toBe(200)
})
