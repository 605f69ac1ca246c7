// Which charts a report has, and the values of their points.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Chart, LineChart, PointChart } from '../../../lib/report/chart.js'
import { chartsOf } from '../../../lib/report/charts.js'
import { readRuns } from '../../../lib/report/run.js'
import { MOST_POINTS } from '../../../lib/report/series.js'
import { evaluationRecord, fallingRun, stepRecord, writeRun } from './run_files.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-report-charts-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

async function chartsFor(runs: Record<string, [lines: object[], results?: object]>): Promise<Chart[]> {
  const paths = Object.entries(runs).map(([name, [lines, results]]) => writeRun(join(folder, name), lines, results))
  return chartsOf(await readRuns(paths, new AbortController().signal))
}

const named = <T extends Chart>(charts: Chart[], name: string) => charts.find((chart) => chart.name === name) as T

it('draws losses against tokens, FLOPs and seconds', async () => {
  const lines = [
    stepRecord({ step: 1, lmLoss: 5 }),
    stepRecord({ step: 2, lmLoss: null }),
    stepRecord({ step: 3, lmLoss: 4 }),
    evaluationRecord(3, { lmLoss: 4.5 }),
  ]
  const charts = await chartsFor({ plain: [lines] })
  expect(charts.map(({ name }) => name)).toEqual(['loss-by-tokens', 'loss-by-flops', 'loss-by-seconds'])
  const [tokens, flops, seconds] = charts as LineChart[]
  expect(tokens!.series).toEqual([
    {
      label: 'plain',
      style: expect.anything(),
      training: [
        { x: 100, y: 5 },
        { x: 300, y: 4 },
      ],
      heldOut: [{ x: 300, y: 4.5 }],
    },
  ])
  expect(flops!.series[0]!.training.map(({ x }) => x)).toEqual([2e6, 6e6])
  expect(seconds!.series[0]!.heldOut).toEqual([{ x: 1.5, y: 4.5 }])
})

it('leaves the first twentieth of the shortest run out of the losses', async () => {
  const charts = await chartsFor({ short: [fallingRun(100)], long: [fallingRun(190)] })
  const { series } = named<LineChart>(charts, 'loss-by-tokens')
  // 5% of 100 steps of 100 tokens.
  expect(series.map(({ training }) => training[0]!.x)).toEqual([500, 500])
  expect(series.map(({ training }) => training.at(-1)!.x)).toEqual([10_000, 19_000])
})

it('draws the routing of runs whose tokens have several depths', async () => {
  const lines = [
    stepRecord({ step: 1, depthHistogram: [50, 50], routingAccuracy: 0.9 }),
    stepRecord({ step: 2, depthHistogram: [20, 80], routingAccuracy: null }),
    evaluationRecord(2, { depthHistogram: [10, 30] }),
  ]
  const recursive = [stepRecord({ step: 1, depthHistogram: [0, 100] })]
  const charts = await chartsFor({ vanilla: [fallingRun(3)], recursive: [recursive], 'mor-2': [lines] })
  expect(charts.map(({ name }) => name).slice(3)).toEqual(['mean-depth', 'routing-accuracy', 'shares-1'])
  const style = named<LineChart>(charts, 'loss-by-tokens').series.find(({ label }) => label === 'mor-2')!.style
  expect(named<LineChart>(charts, 'mean-depth').series).toEqual([
    {
      label: 'mor-2',
      style,
      training: [
        { x: 100, y: 1.5 },
        { x: 200, y: 1.8 },
      ],
      heldOut: [{ x: 200, y: 1.75 }],
    },
  ])
  expect(named<LineChart>(charts, 'routing-accuracy').series).toEqual([
    { label: 'mor-2', style, training: [{ x: 100, y: 0.9 }], heldOut: [] },
  ])
  const shares = named<LineChart>(charts, 'shares-1')
  expect(shares.title).toContain('mor-2')
  expect(shares.series.map(({ label, heldOut }) => [label, heldOut])).toEqual([
    ['depth 1', [{ x: 200, y: 0.25 }]],
    ['depth 2', [{ x: 200, y: 0.75 }]],
  ])
})

it('counts the tokens that run no recursion', async () => {
  const lines = [
    stepRecord({ step: 1, tokens: 100, depthHistogram: [30, 20] }),
    evaluationRecord(1, { tokens: 80, depthHistogram: [20, 20] }),
  ]
  const charts = await chartsFor({ half: [lines] })
  const [{ training, heldOut }] = named<LineChart>(charts, 'mean-depth').series as [LineChart['series'][number]]
  expect([training, heldOut]).toEqual([[{ x: 100, y: 0.7 }], [{ x: 100, y: 0.75 }]])
  expect(named<LineChart>(charts, 'shares-1').series.map(({ label, heldOut }) => [label, heldOut[0]!.y])).toEqual([
    ['depth 0', 0.5],
    ['depth 1', 0.25],
    ['depth 2', 0.25],
  ])
})

it('draws quality against speed, on a logarithmic axis where speeds differ much', async () => {
  const near: Record<string, [object[], object?]> = {
    results: [fallingRun(10), { servedTokensPerSecond: 500, heldOut: { bitsPerByte: 1.25 } }],
    evaluated: [fallingRun(10), { servedTokensPerSecond: 900 }],
    slow: [fallingRun(10)],
    unmeasured: [fallingRun(3), { servedTokensPerSecond: 900 }],
  }
  const chart = named<PointChart>(await chartsFor(near), 'quality-by-speed')
  expect(chart.points.map(({ label, x, y }) => [label, x, y])).toEqual([
    ['results', 500, 1.25],
    ['evaluated', 900, 2],
  ])
  expect(chart.x.scale).toBe('linear')
  const far = { ...near, fast: [fallingRun(10), { servedTokensPerSecond: 9000 }] as [object[], object] }
  expect(named<PointChart>(await chartsFor(far), 'quality-by-speed').x.scale).toBe('log')
})

it('draws runs of any length with few points', { timeout: 120_000 }, () => {
  const step = { lmLoss: 3, tokensByDepth: [0, 1, 1], routingAccuracy: 0.5 }
  const steps = Array.from({ length: 200_000 }, (_, i) => ({
    ...step,
    step: i + 1,
    tokens: i + 1,
    flops: i,
    seconds: i,
  }))
  const metrics = { steps, evaluations: [], refused: 0, missingLosses: 0, missing: null }
  const results = { servedTokensPerSecond: null, lossTopK: null, lossThreshold: null, bitsPerByte: null }
  const charts = chartsOf([{ name: 'long', metrics, plannedSteps: null, results, checkpoint: null }]) as LineChart[]
  expect(charts).toHaveLength(6)
  for (const { training } of charts.flatMap(({ series }) => series)) {
    expect(training.length).toBeGreaterThan(50)
    expect(training.length).toBeLessThanOrEqual(MOST_POINTS)
  }
})

it('gives every run a style of its own, and the same one in all charts', async () => {
  const runs = Object.fromEntries(
    Array.from({ length: 21 }, (_, i) => [`r${i}`, [fallingRun(2, { depths: i % 2 ? [1, 1] : [1] })] as [object[]]]),
  )
  const charts = (await chartsFor(runs)) as LineChart[]
  const { series } = named<LineChart>(charts, 'loss-by-flops')
  expect(new Set(series.map(({ style }) => JSON.stringify(style))).size).toBe(21)
  for (const { label, style } of named<LineChart>(charts, 'mean-depth').series)
    expect(style).toEqual(series.find((other) => other.label === label)!.style)
})
