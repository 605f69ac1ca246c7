// The results of a study as a Markdown table: a row for each kind of run, with the spread of its seeds.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Places, readResult, type StudyResult } from './run.js'
import { type Serving, servingFile } from './serving.js'
import type { StudyRun } from './study.js'

const head = [
  'run',
  'seeds',
  'parameters',
  'tokens',
  'FLOPs',
  'bits per byte, threshold',
  'loss, threshold',
  'threshold − top-k',
  'routing accuracy',
  'mean depth',
  'last word',
  'minimal pairs',
  'training',
  'memory',
  'served',
]

/** Means over the seeds that have ended, ± half the difference of the largest and the smallest. */
export function markdownTable(runs: readonly StudyRun[], places: Places): string[] {
  const names = [...new Set(runs.map(({ name }) => name))]
  const rates = servedRates(places)
  const rows = names.flatMap((name) => {
    const of = runs.filter((run) => run.name === name)
    const results = of.map((run) => readResult(run, places)).filter((result) => result !== null)
    return results.length === 0 ? [] : [row(name, results, rates)]
  })
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`)
}

function row(name: string, results: readonly StudyResult[], rates: Serving['models']): string[] {
  const { parameters } = results[0]!
  const of = (digits: number, value: (result: StudyResult) => number | null, unit = ''): string => {
    const values = results.map(value)
    if (values.some((one) => one === null)) return ''
    return `${meanAndSpread(values as number[], digits)}${unit}`
  }
  const metric = (task: string, metricName: string) => (result: StudyResult) =>
    result.heldOut.threshold[task]?.[metricName]?.value ?? null
  return [
    name,
    String(results.length),
    `${(parameters / 1e6).toFixed(2)}M`,
    of(1, ({ training }) => training.tokens / 1e6, 'M'),
    of(2, ({ training }) => training.flops / 1e15, 'P'),
    of(4, metric('held_out', 'bitsPerByte')),
    of(4, metric('held_out', 'loss')),
    of(4, gapOf),
    of(2, ({ training }) => (training.routingAccuracy === null ? null : 100 * training.routingAccuracy), '%'),
    of(2, ({ training }) => training.meanDepth),
    of(1, (result) => percent(metric('last_word', 'accuracy')(result)), '%'),
    of(1, pairsOf, '%'),
    of(0, ({ training }) => training.seconds, ' s'),
    of(0, ({ training }) => training.peakMemoryBytes / 2 ** 20, ' MiB'),
    of(0, ({ seed }) => rates[`${name}.seed${seed}`]?.tokensPerSecond.median ?? null, ' tokens/s'),
  ]
}

/** What the causal routing loses: nats per token. */
export function gapOf({ heldOut: { threshold, topk } }: StudyResult): number | null {
  return topk === undefined ? null : threshold.held_out!.loss!.value - topk.held_out!.loss!.value
}

/** Mean over the phenomena. */
function pairsOf({ heldOut: { threshold } }: StudyResult): number {
  const accuracies = Object.entries(threshold)
    .filter(([task]) => task !== 'held_out' && task !== 'last_word')
    .map(([, { accuracy }]) => accuracy!.value)
  return (100 * accuracies.reduce((sum, value) => sum + value, 0)) / accuracies.length
}

function percent(value: number | null): number | null {
  return value === null ? null : 100 * value
}

export function meanAndSpread(values: readonly number[], digits: number): string {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  if (values.length === 1) return mean.toFixed(digits)
  const spread = (Math.max(...values) - Math.min(...values)) / 2
  return Number(spread.toFixed(digits)) === 0
    ? mean.toFixed(digits)
    : `${mean.toFixed(digits)} ± ${spread.toFixed(digits)}`
}

function servedRates({ results }: Places): Serving['models'] {
  const file = join(results, servingFile)
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Serving).models : {}
}
