// The serve bench's arithmetic: requests, latencies, work and ideal speed-up. Must not run a model.
import { describe, expect, test } from 'vitest'
import { latency, putLoad } from '../../bench/serve/load.js'
import { idealSpeedUp, meanDepth, modelNames, workOf } from '../../bench/serve/shapes.js'
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

  test('aims at the mean depth of the default capacities', () => {
    expect(modelNames.map(meanDepth)).toEqual([null, null, null, null, 1.5, 2, 2.5])
  })
})
