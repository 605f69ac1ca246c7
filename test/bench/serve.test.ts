// Tests of the serve bench's arithmetic: requests, latencies, work and ideal speed-up.
import { describe, expect, test } from 'vitest'
import { Report } from '../../bench/lib/report.js'
import { reportEqualMemory } from '../../bench/serve/figures.js'
import { latency, putLoad } from '../../bench/serve/load.js'
import { newEqualMemory, newSweep, speedUps } from '../../bench/serve/series.js'
import type { ServeAnswer } from '../../bench/serve/serve_requests.js'
import { idealSpeedUp, meanDepth, workOf } from '../../bench/serve/shapes.js'
import { contextSize, requestCount, workload } from '../../bench/serve/workload.js'
import type { EngineStats } from '../../lib/index.js'

describe('workload', () => {
  const requests = workload(requestCount, 1000, 1)

  test('has lengths of an eighth of 100 to 1024, spread over the range', () => {
    for (const lengths of [requests.map(({ prompt }) => prompt.length), requests.map(({ maxTokens }) => maxTokens)]) {
      expect(Math.min(...lengths)).toBeGreaterThanOrEqual(12)
      expect(Math.max(...lengths)).toBeLessThanOrEqual(128)
      const mean = lengths.reduce((sum, length) => sum + length, 0) / lengths.length
      expect(mean).toBeGreaterThan(64)
      expect(mean).toBeLessThan(76)
    }
    expect(Math.max(...requests.map(({ prompt, maxTokens }) => prompt.length + maxTokens))).toBeLessThanOrEqual(
      contextSize,
    )
  })

  test('asks the same of every seed, with prompts that share no beginning', () => {
    const others = workload(requestCount, 1000, 2)
    expect(others.map(({ maxTokens }) => maxTokens)).toEqual(requests.map(({ maxTokens }) => maxTokens))
    expect(others.map(({ prompt }) => prompt.length)).toEqual(requests.map(({ prompt }) => prompt.length))
    const beginnings = [...requests, ...others].map(({ prompt }) => prompt.slice(0, 12).join())
    expect(new Set(beginnings).size).toBe(2 * requestCount)
  })

  test('has no more requests than it says', () => {
    expect(workload(3, 1000, 1)).toEqual(requests.slice(0, 3))
    expect(() => workload(requestCount + 1, 1000, 1)).toThrow('257 requests asked for; the workload has 256')
  })
})

describe('putLoad', () => {
  const request = (maxTokens: number) => ({ prompt: [1], maxTokens })
  const tokens = async function* (count: number) {
    for (let i = 0; i < count; i++) {
      await new Promise((resolve) => setTimeout(resolve, 5))
      yield i
    }
  }

  test('takes what each request asks for, and no more', async () => {
    const { tokens: counted, ...times } = await putLoad([request(3), request(2)], () => tokens(9))
    expect(counted).toBe(5)
    expect(times.interTokenLatency.median).toBeGreaterThan(3)
    expect(times.timeToFirstToken.p99).toBeGreaterThanOrEqual(times.timeToFirstToken.median)
    expect(times.seconds * 1000).toBeGreaterThan(2 * times.interTokenLatency.median)
  })

  test('fails for a stream that ends too soon', async () => {
    await expect(putLoad([request(4)], () => tokens(3))).rejects.toThrow('after 3 of 4')
  })
})

test('latency: median and 99th percentile are values of the list', () => {
  const times = Array.from({ length: 200 }, (_, i) => 200 - i)
  expect(latency(times)).toEqual({ median: 100, p99: 198 })
  expect(() => latency([])).toThrow('0 times')
})

describe('the work of a run', () => {
  // Two requests of 10 prompt tokens, 6 generated each: 30 tokens went through the model.
  const stats = (depthHistogram: number[]) =>
    ({ promptTokens: 20, tokensGenerated: 12, finished: 2, depthHistogram }) as EngineStats

  test('is 30 layer passes a token for vanilla, of which nothing can be saved', () => {
    const work = workOf('vanilla', stats([]))
    expect(work).toMatchObject({ tokens: 30, layerPasses: 900, vanillaLayerPasses: 900 })
    expect(idealSpeedUp(work)).toBe(1)
  })

  test('is two layers and a block of seven per recursion for mor4', () => {
    const work = workOf('mor4', stats([10, 5, 5, 10]))
    expect(work.layerPasses).toBe(30 * 2 + (10 + 10 + 15 + 40) * 7)
    // The tied head has 49152 rows of 576; a layer has these matrices and two norms.
    const layer = 576 * (2 * 576 + 2 * 192 + 3 * 1536) + 2 * 576
    expect(work.head).toBeCloseTo((12 * 49152 * 576) / layer, 9)
    expect(idealSpeedUp(work)).toBeCloseTo((900 + work.head) / (work.layerPasses + work.head), 12)
  })

  test('has a mean depth of those tokens that ran recursions', () => {
    expect(meanDepth(stats([10, 5, 5, 10]))).toBe((10 + 10 + 15 + 40) / 30)
    expect(meanDepth(stats([0, 7]))).toBe(2)
  })
})

describe('series', () => {
  test('a sweep asks twice as many requests as a batch holds, of every model at the last', () => {
    const sweep = newSweep('all')
    for (const { requests, maxBatchSize } of sweep) expect(requests).toBe(2 * maxBatchSize)
    expect(sweep.filter(({ maxBatchSize }) => maxBatchSize === 128)).toHaveLength(7)
  })

  test('a slow machine measures the same, but less of it', () => {
    const all = newSweep('all')
    const few = newSweep('few')
    for (const series of few) expect(all).toContainEqual(series)
    expect(few.map(({ model, maxBatchSize }) => [model, maxBatchSize])).toEqual([
      ['vanilla', 8],
      ['mor4', 8],
      ['vanilla', 128],
      ['mor4', 128],
    ])
    expect(newEqualMemory('few')).toEqual(newEqualMemory('all').slice(0, 1))
  })

  test('equal memory is so many sequences of 128 tokens in 30 layers, the same for both models', () => {
    for (const { sequences, kvCacheBytes, vanilla, mor4 } of newEqualMemory('all')) {
      expect(kvCacheBytes).toBe(sequences * 128 * 30 * 2 * 3 * 64 * 2)
      expect({ ...mor4, model: 'vanilla' }).toEqual(vanilla)
      expect(vanilla).toMatchObject({ kvCacheBytes, maxBatchSize: vanilla.requests })
    }
  })

  const answer = (tokens: number, depthHistogram: number[] = []) =>
    ({ tokens, seconds: 2, running: 3, stats: { depthHistogram } }) as ServeAnswer

  test('speed-ups compare run with run', () => {
    expect(speedUps([answer(6), answer(20)], [answer(3), answer(5)])).toEqual([2, 4])
  })

  test('at equal memory the ratio is the median of the runs, its spread and the mean depth are told', () => {
    const report = new Report('serve', 'a machine')
    const [least] = newEqualMemory('all')
    least!.vanilla.answers = [answer(100), answer(50), answer(10)]
    least!.mor4.answers = [150, 200, 20].map((tokens) => answer(tokens, [1, 1, 1, 1]))
    reportEqualMemory(report, [least!])
    const { figures, ratios } = report.result
    expect(ratios).toEqual({ mor4_vs_vanilla_kv_4: 2, mor4_vs_vanilla: 2 })
    expect(figures.mor4_speed_up_kv_4).toMatchObject({ median: 2, min: 1.5, max: 4 })
    expect(figures.mor4_mean_depth_kv_4).toMatchObject({ median: 2.5 })
    expect(figures).not.toHaveProperty('vanilla_mean_depth_kv_4')
  })
})
