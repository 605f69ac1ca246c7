// The product bench: compares our bare matrix products, float32 and bfloat16, with the multiply-adds that the machine can do
// in registers and with oneDNN's products. The shapes are 1024³ and those of one training step.
import { resolveConfig } from '../../lib/config.js'
import { buildCeilings, buildOneDnn, measureFmaPeak, vectorBits } from '../lib/ceilings.js'
import { heldToSet, rivalLimits } from '../lib/instruction_set.js'
import { machine, threads } from '../lib/machine.js'
import { buildProgram, programPath, runProgram } from '../lib/native_programs.js'
import { showProgress } from '../lib/progress.js'
import { Report } from '../lib/report.js'
import { geometricMean, median } from '../lib/statistics.js'
import { opWords } from '../ops/program.js'
import { models } from '../train/shapes.js'

const precisions = ['float32', 'bfloat16'] as const
type Precision = (typeof precisions)[number]

/** Tokens of a training step. */
const rows = 2048
/** Milliseconds after which a program counts as hanging. */
const timeout = 300_000

/** C [m, n] = A [m, k] B [k, n]. */
export interface Product {
  m: number
  n: number
  k: number
  a_transposed: boolean
  b_transposed: boolean
  /** Added to a float32 C. */
  accumulate: boolean
}

/** A line of bench_ops. */
export interface OurLine {
  kind: 'op'
  op: string
  variant: string
  flops: number
  seconds: number[]
  product: Product
}

/** A line of onednn_products. */
export interface TheirLine {
  seconds: number
  onednn: string
  implementation: string
}

/** One product in one precision; one value for each round. */
export interface Series {
  precision: Precision
  name: string
  flops: number
  ours: number[]
  theirs: number[]
  implementation: string
}

export async function benchProducts(rounds: number): Promise<Report> {
  const report = new Report('products', machine())
  buildCeilings()
  const hasOneDnn = buildOneDnn(report)
  showProgress('building bench_ops')
  buildProgram('ops', 'bench_ops')
  const series = new Map<string, Series>()
  const peaks: number[] = []
  const lost = new Set<Precision>()
  for (let round = 0; round < rounds; round++) {
    peaks.push(measureFmaPeak())
    for (const precision of precisions) {
      showProgress(`round ${round + 1} of ${rounds}: ${precision}`)
      const ours = runOurs(precision)
      addOurs(series, precision, ours)
      if (!hasOneDnn || lost.has(precision)) continue
      try {
        addTheirs(series, precision, ours, runTheirs(precision, ours))
      } catch (error) {
        lost.add(precision)
        report.remark(`oneDNN's ${precision} has no rows${heldToSet()}: ${(error as Error).message}`)
      }
    }
  }
  const whole = [...series.values()].map((one) => (lost.has(one.precision) ? { ...one, theirs: [] } : one))
  reportProducts(report, whole, peaks, { bits: vectorBits(), held: heldToSet() })
  return report
}

export function addOurs(series: Map<string, Series>, precision: Precision, lines: readonly OurLine[]): void {
  for (const line of lines) {
    const name = nameOf(precision, line)
    const { flops } = line
    const one = series.get(name) ?? { precision, name, flops, ours: [], theirs: [], implementation: '' }
    series.set(name, one)
    one.ours.push(median(line.seconds))
  }
}

/** @param theirs in the order of `ours`. */
export function addTheirs(
  series: Map<string, Series>,
  precision: Precision,
  ours: readonly OurLine[],
  theirs: readonly TheirLine[],
): void {
  for (const [i, line] of ours.entries()) {
    const one = series.get(nameOf(precision, line))!
    const { seconds, onednn, implementation } = theirs[i]!
    one.theirs.push(seconds)
    one.implementation = `oneDNN ${onednn} ${implementation}`
  }
}

/**
 * @param peaks GFLOP/s of multiply-adds, one value for each round. @param set the width of its vectors, and what the rival's
 * figures say of being held to it.
 */
export function reportProducts(
  report: Report,
  series: readonly Series[],
  peaks: readonly number[],
  set: { bits: number; held: string },
): void {
  report.figure('fma_peak', peaks, 'GFLOP/s', `float32 multiply-adds of ${set.bits} bits in registers; each round`)
  for (const { name, flops, ours, theirs, implementation } of series) {
    const rates = (seconds: readonly number[]) => seconds.map((s) => flops / s / 1e9)
    report.figure(name, rates(ours), 'GFLOP/s')
    if (theirs.length > 0) report.figure(`${name}_onednn`, rates(theirs), 'GFLOP/s', implementation + set.held)
  }
  const ofPeak = ({ flops, ours }: Series): number =>
    median(ours.map((seconds, round) => flops / seconds / 1e9 / peaks[round]!))
  const ofRival = ({ ours, theirs }: Series): number => median(ours.map((seconds, round) => theirs[round]! / seconds))
  for (const one of series) {
    report.ratio(`${one.name}_of_fma_peak`, ofPeak(one), 'round by round')
    if (one.theirs.length > 0) report.ratio(`${one.name}_vs_onednn`, ofRival(one), 'round by round')
  }
  for (const precision of precisions) {
    const own = series.filter((one) => one.precision === precision)
    const rivalled = own.filter(({ theirs }) => theirs.length > 0)
    const note = 'geometric mean over the products'
    if (own.length > 0) report.ratio(`${precision}_of_fma_peak`, geometricMean(own.map(ofPeak)), note)
    if (rivalled.length > 0) report.ratio(`${precision}_vs_onednn`, geometricMean(rivalled.map(ofRival)), note)
  }
}

/** E.g. float32_gate_up_backward_input. */
function nameOf(precision: Precision, { op, variant }: OurLine): string {
  return `${precision}_${variant}_${op.replace('linear_', '')}`
}

/** A product as onednn_products takes it. */
export function productWord({ m, n, k, a_transposed, b_transposed, accumulate }: Product): string {
  return [m, n, k, ...[a_transposed, b_transposed, accumulate].map(Number)].join(',')
}

function runOurs(precision: Precision): OurLine[] {
  const shapes = { rows: [rows], batchRows: rows, attention: [`1x${rows}`] } as const
  const options = { device: 'cpu', dtype: precision, samples: 1, first: 0 }
  const words = opWords('products', resolveConfig(models.mor), shapes, options)
  const lines = runProgram<OurLine | { kind: 'device' }>(programPath('ops', 'bench_ops'), words, { timeout })
  return lines.filter((line) => line.kind === 'op')
}

/** Held to the instruction set that is forced. @throws {Error} where oneDNN does not have these products. */
function runTheirs(precision: Precision, ours: readonly OurLine[]): TheirLine[] {
  const words = [precision, `${threads}`, ...ours.map(({ product }) => productWord(product))]
  const program = programPath('baselines', 'onednn_products')
  return runProgram<TheirLine>(program, words, { timeout, environment: rivalLimits() })
}
