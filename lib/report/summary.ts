// The table of a report: where each run ended, in numbers.
import { formatCount, formatDuration } from '../cli/format.js'
import { modelKind } from '../config.js'
import { parameterCount } from '../model_size.js'
import { bitsPerByteOf } from './charts.js'
import { tableOf } from './html.js'
import type { StepMeasurement } from './metrics.js'
import type { Run } from './run.js'
import { meanDepth } from './series.js'

/** Values of training are means of so many last steps, since those of one step are noisy. */
const LAST_STEPS = 20

/** Each column with the text of its cell; null where the run has no such value. */
const columns: [head: string, cell: (run: Run) => string | null][] = [
  ['run', ({ name }) => name],
  ['model', ({ checkpoint }) => checkpoint && kindOf(checkpoint.config)],
  ['parameters', ({ checkpoint }) => checkpoint && formatCount(parameterCount(checkpoint.config).total)],
  ['steps', (run) => String(last(run).step)],
  ['tokens', (run) => formatCount(last(run).tokens)],
  ['executed FLOPs', (run) => last(run).flops.toExponential(2)],
  ['time in steps', (run) => formatDuration(last(run).seconds)],
  [
    'training loss',
    (run) =>
      fixed(
        ofLastSteps(run, (step) => step.lmLoss),
        4,
      ),
  ],
  ['held-out loss, top-k', ({ results }) => fixed(results.lossTopK, 4)],
  ['held-out loss, threshold', (run) => fixed(run.results.lossThreshold ?? evaluation(run)?.lmLoss, 4)],
  ['bits per byte', (run) => fixed(bitsPerByteOf(run), 4)],
  ['held-out mean depth', (run) => fixed(meanDepth(evaluation(run)?.tokensByDepth ?? []), 2)],
  ['routing accuracy', (run) => percent(ofLastSteps(run, (step) => step.routingAccuracy))],
  ['served tokens/s', ({ results: { servedTokensPerSecond: speed } }) => (speed === null ? null : formatCount(speed))],
]

/** Without the columns that no run has a value for. */
export function summaryTable(runs: readonly Run[]): string {
  const cells = columns.map(([head, cell]) => [head, runs.map(cell)] as const)
  const shown = cells.filter(([, values]) => values.some((value) => value !== null))
  const rows = runs.map((_, i) => shown.map(([, values]) => values[i] ?? '–'))
  const caption = `Where the runs ended; training loss and routing accuracy are means of the last ${LAST_STEPS} steps.`
  return tableOf(
    caption,
    shown.map(([head]) => head),
    rows,
  )
}

const last = ({ metrics }: Run) => metrics.steps.at(-1)!
const evaluation = ({ metrics }: Run) => metrics.evaluations.at(-1)

function kindOf(config: Parameters<typeof modelKind>[0]): string {
  const kind = modelKind(config)
  if (kind === 'vanilla') return kind
  return `${kind === 'mor' ? 'MoR' : kind}, N = ${config.num_recursions}`
}

/** NaN where none of the steps has the value. */
function ofLastSteps({ metrics }: Run, value: (step: StepMeasurement) => number): number {
  const values = metrics.steps.slice(-LAST_STEPS).map(value).filter(Number.isFinite)
  return values.reduce((sum, one) => sum + one, 0) / values.length
}

function fixed(value: number | null | undefined, digits: number): string | null {
  return Number.isFinite(value) ? value!.toFixed(digits) : null
}

function percent(share: number): string | null {
  return Number.isFinite(share) ? `${(100 * share).toFixed(1)}%` : null
}
