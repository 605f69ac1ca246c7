// The results of a study as a Markdown table: a row for each kind of run, with the spread of its seeds.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Places, readResult, type StudyResult } from './run.js'
import { type Serving, servingFile } from './serving.js'
import { type StepTimes, stepTimesFile } from './step_times.js'
import { idOf, type StudyRun } from './study.js'

const head = [
  'run',
  'seeds',
  'parameters',
  'tokens',
  'FLOPs',
  'bits per byte, threshold',
  'threshold − top-k, nats',
  'routing accuracy',
  'depth, threshold',
  'last word',
  'minimal pairs',
  'training',
  'memory',
  'served tokens/s',
]

/** Means over the seeds that have ended, ± half the difference of the largest and the smallest. */
export function markdownTable(runs: readonly StudyRun[], places: Places): string[] {
  const rates = readMeasured<Serving>(places, servingFile)?.models ?? {}
  const times = readMeasured<StepTimes>(places, stepTimesFile)?.runs ?? {}
  return table(
    head,
    endedOf(runs, places).map(([name, results]) => row(name, results, rates, times)),
  )
}

/** The accuracies of the minimal pairs, a column for each kind. */
export function kindsTable(runs: readonly StudyRun[], places: Places): string[] {
  const ended = endedOf(runs, places)
  const kinds = [...new Set(ended.flatMap(([, results]) => results.flatMap(pairTasks)))]
  const rows = ended.map(([name, results]) => [
    `\`${name}\``,
    ...kinds.map((kind) => cell(results, 1, (result) => percent(metricOf(result, kind, 'accuracy')), '%')),
  ])
  return table(['run', ...kinds], rows)
}

/** The results of all runs of one name, for the names that have any. */
function endedOf(runs: readonly StudyRun[], places: Places): [name: string, StudyResult[]][] {
  const names = [...new Set(runs.map(({ name }) => name))]
  return names.flatMap((name) => {
    const of = runs.filter((run) => run.name === name)
    const results = of.map((run) => readResult(run, places)).filter((result) => result !== null)
    return results.length === 0 ? [] : [[name, results]]
  })
}

function table(head: readonly string[], rows: readonly string[][]): string[] {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`)
}

/** Empty where a result lacks the value. */
function cell(
  results: readonly StudyResult[],
  digits: number,
  value: (result: StudyResult) => number | null,
  unit: string,
): string {
  const values = results.map(value)
  if (values.some((one) => one === null)) return ''
  return `${meanAndSpread(values as number[], digits)}${unit}`
}

function metricOf({ heldOut: { threshold } }: StudyResult, task: string, metric: string): number | null {
  return threshold[task]?.[metric]?.value ?? null
}

function row(
  name: string,
  results: readonly StudyResult[],
  rates: Serving['models'],
  times: StepTimes['runs'],
): string[] {
  const { parameters } = results[0]!
  const of = (digits: number, value: (result: StudyResult) => number | null, unit = '') =>
    cell(results, digits, value, unit)
  const metric = (task: string, metricName: string) => (result: StudyResult) => metricOf(result, task, metricName)
  const tasks = versionOf(results)
  const mark = tasks === null || tasks === 1 ? '%' : `% (${tasks})`
  return [
    `\`${name}\``,
    String(results.length),
    `${(parameters / 1e6).toFixed(2)}M`,
    of(1, ({ training }) => training.tokens / 1e6, 'M'),
    of(2, ({ training }) => training.flops / 1e15, 'P'),
    of(4, metric('held_out', 'bitsPerByte')),
    of(4, gapOf).replace('-', '−'),
    of(1, ({ training }) => (training.routingAccuracy === null ? null : 100 * training.routingAccuracy), '%'),
    of(2, ({ training }) => training.heldOutDepth ?? null),
    of(1, (result) => (tasks === null ? null : percent(lastWordOf(result))), mark),
    of(1, (result) => (tasks === null ? null : pairsOf(result)), mark),
    ofMeasured(results, times, (time, { training }) => time.median * training.steps, ' s'),
    of(0, ({ training }) => training.peakMemoryBytes / 2 ** 20, ' MiB'),
    ofMeasured(results, rates, (rate) => rate.tokensPerSecond.median, ''),
  ]
}

/** What the causal routing loses: nats per token. */
export function gapOf({ heldOut: { threshold, topk } }: StudyResult): number | null {
  return topk === undefined ? null : threshold.held_out!.loss!.value - topk.held_out!.loss!.value
}

/** Of the tasks that all results of a row have; null where they differ, since their means would say nothing. */
function versionOf(results: readonly StudyResult[]): number | null {
  const versions = new Set(results.map((result) => Number(lastWordTask(result).split('.')[1] ?? 1)))
  return versions.size === 1 ? [...versions][0]! : null
}

/** `last_word`, with the version of the tasks where it is not the first. */
function lastWordTask({ heldOut: { threshold } }: StudyResult): string {
  return Object.keys(threshold).find((task) => task.startsWith('last_word')) ?? 'last_word'
}

function lastWordOf(result: StudyResult): number | null {
  return metricOf(result, lastWordTask(result), 'accuracy')
}

/** Those of minimal pairs; in the first version they are named by their kind alone. */
function pairTasks(result: StudyResult): string[] {
  return Object.keys(result.heldOut.threshold).filter((task) => task !== 'held_out' && task !== lastWordTask(result))
}

/** Mean over the kinds. */
function pairsOf(result: StudyResult): number {
  const accuracies = pairTasks(result).map((task) => metricOf(result, task, 'accuracy')!)
  return (100 * accuracies.reduce((sum, value) => sum + value, 0)) / accuracies.length
}

function percent(value: number | null): number | null {
  return value === null ? null : 100 * value
}

/** Half the range behind ±, unless it rounds to nothing. */
export function meanAndSpread(values: readonly number[], digits: number): string {
  const mean = fixed(values.reduce((sum, value) => sum + value, 0) / values.length, digits)
  const spread = fixed((Math.max(...values) - Math.min(...values)) / 2, digits)
  return Number(spread) === 0 ? mean : `${mean} ± ${spread}`
}

/** Without the sign of a negative value that rounds to zero. */
function fixed(value: number, digits: number): string {
  return (Number(value.toFixed(digits)) + 0).toFixed(digits)
}

/**
 * Of the seeds that were measured with nothing else to do, all by turns. The run's own seconds are not shown: they hold whatever else the
 * machine had to do.
 */
function ofMeasured<T>(
  results: readonly StudyResult[],
  measured: Record<string, T>,
  value: (measured: T, result: StudyResult) => number,
  unit: string,
): string {
  const seeds = results.filter((result) => measured[idOf(result)] !== undefined)
  return seeds.length === 0 ? '' : cell(seeds, 0, (result) => value(measured[idOf(result)]!, result), unit)
}

function readMeasured<T>({ results }: Places, name: string): T | null {
  const file = join(results, name)
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as T) : null
}
