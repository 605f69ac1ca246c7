import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import * as metrics from '../../../bench/study/metrics.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-metrics-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const summarizeMetrics = (file: string) => metrics.summarizeMetrics(file, new AbortController().signal)

const step = (number: number, rest: object = {}) => ({
  type: 'step',
  step: number,
  lmLoss: 10 - number,
  distillationLoss: 0,
  tokens: 100,
  flops: 1e6,
  seconds: 0.5,
  memoryBytes: 1000 + number,
  routingAccuracy: 0.9,
  depthHistogram: [50, 50],
  ...rest,
})

function write(records: object[], rest = ''): string {
  const file = join(folder, 'metrics.jsonl')
  writeFileSync(file, records.map((record) => `${JSON.stringify(record)}\n`).join('') + rest)
  return file
}

it('adds up steps, and skips other records and the half line of a killed run', async () => {
  const evaluation = { type: 'evaluation', routing: 'threshold', depthHistogram: [1, 0, 3] }
  const other = { ...evaluation, routing: 'topk', depthHistogram: [1, 0, 0] }
  const file = write(
    [step(1), { ...evaluation, depthHistogram: [1] }, evaluation, other, step(2), step(3, { seconds: 50 })],
    '{"type":"st',
  )
  const training = await summarizeMetrics(file)
  expect(training).toMatchObject({ steps: 3, tokens: 300, flops: 3e6, peakMemoryBytes: 1003, loss: 7 })
  // The pause before the third step does not count.
  expect(training.seconds).toBeCloseTo(1.5, 10)
  expect(training.tokensPerSecond).toBeCloseTo(200, 10)
  expect(training.routingAccuracy).toBeCloseTo(0.9, 10)
  expect(training.meanDepth).toBe(1.5)
  expect(training.heldOutDepth).toBe(2.5)
  expect(training.curve).toEqual([1, 2, 3].map((n) => ({ step: n, tokens: 100 * n, flops: 1e6 * n, loss: 10 - n })))
})

it('has no routing where there is no router', async () => {
  const file = write([step(1, { routingAccuracy: null, depthHistogram: [100] })])
  expect(await summarizeMetrics(file)).toMatchObject({ routingAccuracy: null, meanDepth: null, heldOutDepth: null })
})

it('thins the curve to means of as many steps each', async () => {
  const file = write(Array.from({ length: 250 }, (_, i) => step(i + 1)))
  const { curve } = await summarizeMetrics(file)
  expect(curve).toHaveLength(84)
  expect(curve[0]).toEqual({ step: 3, tokens: 300, flops: 3e6, loss: 8 })
  expect(curve.at(-1)).toEqual({ step: 250, tokens: 25000, flops: 250e6, loss: -240 })
})

it('refuses a run that lacks a step', async () => {
  await expect(summarizeMetrics(write([step(1), step(3)]))).rejects.toThrow(/2 steps.*last one is 3/)
  await expect(summarizeMetrics(write([]))).rejects.toThrow(/0 steps/)
  await expect(summarizeMetrics(join(folder, 'none'))).rejects.toThrow(/there is no file or folder .*none/)
})

it('refuses a run in which a loss was not finite, and names the line', async () => {
  const file = write([step(1), { type: 'refused', step: 1, message: 'the loss is NaN' }, step(2)])
  await expect(summarizeMetrics(file)).rejects.toThrow(
    `${file}, line 2: a step was refused, so the run has no result: the loss is NaN`,
  )
})
