// Which charts a report has, and the points of each.
import type { Axis, Chart, LineChart, PointChart, Series } from './chart.js'
import { depthStyle, runStyle, type Style } from './colors.js'
import type { Cost, Measurement } from './metrics.js'
import type { Run } from './run.js'
import { meanDepth, type Point, pointsOf, shareOfDepth } from './series.js'

/** Charts of loss begin at this share of the training of the shortest run: what comes before would hide how the runs differ. */
const LOSS_FROM = 0.05
/** Values that differ by a larger factor are drawn on a logarithmic axis. */
const LINEAR_FACTOR = 10

/** A run looks the same in all charts. */
interface StyledRun extends Run {
  style: Style
}

const LINES = 'Thin lines: training. Points: held-out text.'

export function chartsOf(all: readonly Run[]): Chart[] {
  const runs = all.map((run, i): StyledRun => ({ ...run, style: runStyle(i) }))
  const routed = runs.filter((run) => isRouted(run))
  const charts: Chart[] = [
    lossChart(runs, 'tokens', { title: 'training tokens', format: '~s' }),
    lossChart(runs, 'flops', { title: 'executed FLOPs, forward and backward', format: '~e' }),
    lossChart(runs, 'seconds', { title: 'seconds in training steps', format: '~s' }),
    qualityChart(runs),
    ...(routed.length > 0 ? [meanDepthChart(routed), accuracyChart(routed)] : []),
    ...routed.map((run, i) => sharesChart(run, i + 1)),
  ]
  return charts.filter((chart) =>
    chart.kind === 'points'
      ? chart.points.length > 0
      : chart.series.some(({ training, heldOut }) => training.length + heldOut.length > 0),
  )
}

/** Whether tokens of the run had different depths. */
function isRouted({ metrics }: Run): boolean {
  const depths = new Set<number>()
  for (const { tokensByDepth } of [...metrics.steps, ...metrics.evaluations]) {
    for (const [depth, count] of tokensByDepth.entries()) if (count > 0) depths.add(depth)
  }
  return depths.size > 1
}

/** Mean cross-entropy against what training had cost. */
function lossChart(runs: readonly StyledRun[], cost: keyof Cost, axis: Omit<Axis, 'scale'>): LineChart {
  const from = Math.min(...runs.map(({ metrics }) => metrics.steps.at(-1)![cost])) * LOSS_FROM
  const points = (measurements: readonly Measurement[]) => {
    const shown = measurements.filter((of) => of[cost] > 0 && of[cost] >= from)
    return pointsOf(
      shown,
      (of) => of[cost],
      (of) => of.lmLoss,
    )
  }
  return {
    kind: 'line',
    name: `loss-by-${cost}`,
    title: `Loss against ${cost === 'flops' ? 'executed FLOPs' : cost}`,
    caption: `${LINES} Logarithmic from left to right, without the first twentieth of the shortest run.`,
    x: { ...axis, scale: 'log' },
    y: { title: 'loss, nats per token', scale: 'linear', format: '~f' },
    series: seriesOf(runs, points),
  }
}

/** A line of training and one of held-out text for each run. */
function seriesOf(runs: readonly StyledRun[], points: (measurements: readonly Measurement[]) => Point[]): Series[] {
  return runs.map(({ name, style, metrics }) => ({
    label: name,
    style,
    training: points(metrics.steps),
    heldOut: points(metrics.evaluations),
  }))
}

function qualityChart(runs: readonly StyledRun[]): PointChart {
  const points = runs.flatMap((run) => {
    const { servedTokensPerSecond: x } = run.results
    const y = bitsPerByteOf(run)
    return x === null || y === null ? [] : [{ label: run.name, style: run.style, x, y }]
  })
  const speeds = points.map(({ x }) => x)
  const scale = Math.max(...speeds) > LINEAR_FACTOR * Math.min(...speeds) ? 'log' : 'linear'
  return {
    kind: 'points',
    name: 'quality-by-speed',
    title: 'Quality against speed of serving',
    caption: 'Lower and further right is better.',
    x: { title: 'served tokens per second', scale, format: '~s' },
    y: { title: 'bits per byte of held-out text', scale: 'linear', format: '~f' },
    points,
  }
}

/** What results.json says, or else the last evaluation. */
export function bitsPerByteOf({ results, metrics }: Run): number | null {
  const measured = results.bitsPerByte ?? metrics.evaluations.at(-1)?.bitsPerByte ?? Number.NaN
  return Number.isNaN(measured) ? null : measured
}

const tokensAxis: Axis = { title: 'training tokens', scale: 'linear', format: '~s' }

function meanDepthChart(runs: readonly StyledRun[]): LineChart {
  const points = (measurements: readonly Measurement[]) => byTokens(measurements, (of) => meanDepth(of.tokensByDepth))
  return {
    kind: 'line',
    name: 'mean-depth',
    title: 'Mean depth',
    caption: LINES,
    x: tokensAxis,
    y: { title: 'recursions per token', scale: 'linear', format: '~f' },
    series: seriesOf(runs, points),
  }
}

function accuracyChart(runs: readonly StyledRun[]): LineChart {
  const series = runs.map(({ name, style, metrics }): Series => {
    return { label: name, style, training: byTokens(metrics.steps, (of) => of.routingAccuracy), heldOut: [] }
  })
  return {
    kind: 'line',
    name: 'routing-accuracy',
    title: 'Routing accuracy',
    caption: 'Share of routing decisions in training in which the causal threshold agrees with top-k.',
    x: tokensAxis,
    y: { title: 'accuracy', scale: 'linear', format: '.1~%' },
    series: series.filter(({ training }) => training.length > 0),
  }
}

/** @param number of the run among those that are routed: names of runs need not be names of files */
function sharesChart({ name, metrics }: Run, number: number): LineChart {
  const all = [...metrics.steps, ...metrics.evaluations]
  const deepest = all.reduce((most, { tokensByDepth }) => Math.max(most, tokensByDepth.length - 1), 0)
  const shallowest = all.some(({ tokensByDepth: [none = 0] }) => none > 0) ? 0 : 1
  const depths = Array.from({ length: deepest - shallowest + 1 }, (_, i) => shallowest + i)
  const points = (measurements: readonly Measurement[], depth: number) =>
    byTokens(measurements, (of) => shareOfDepth(of.tokensByDepth, depth))
  return {
    kind: 'line',
    name: `shares-${number}`,
    title: `Shares of depths: ${name}`,
    caption: `Share of tokens that ran so many recursions. ${LINES}`,
    x: tokensAxis,
    y: { title: 'share of tokens', scale: 'linear', format: '.1~%' },
    series: depths.map((depth, i) => ({
      label: `depth ${depth}`,
      style: depthStyle(i, depths.length),
      training: points(metrics.steps, depth),
      heldOut: points(metrics.evaluations, depth),
    })),
  }
}

function byTokens<T extends Measurement>(measurements: readonly T[], y: (of: T) => number): Point[] {
  return pointsOf(measurements, (of) => of.tokens, y)
}
