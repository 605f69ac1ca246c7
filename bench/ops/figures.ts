// What bench_ops prints, as figures and ratios to the machine's ceilings and to cuBLASLt.
import type { Report } from '../lib/report.js'
import { geometricMean, median } from '../lib/statistics.js'

/** What bench_ops prints of the device and of cases that succeed. */
export type Line =
  | { kind: 'device'; name: string }
  | { kind: 'copy'; bytes: number; seconds: number[] }
  | {
      kind: 'op'
      op: string
      variant: string
      waits: boolean
      flops: number
      bytes: number
      seconds: number[]
      rival?: { name: string; seconds: number[]; algorithms?: number }
    }

export type OpLine = Extract<Line, { kind: 'op' }>

/** Operations and bytes per second that no op can exceed. */
export interface Ceilings {
  flops: number
  bytes: number
}

/** FLOP/s of dense bf16 products from the manufacturers' data sheets. */
const densePeaks: [gpu: RegExp, flops: number][] = [
  [/H[12]00|GH200/, 989e12],
  [/A100|A800/, 312e12],
]

/** FLOP/s by the name of a GPU; undefined: its data sheet is not known here. */
export function densePeak(name: string): number | undefined {
  return densePeaks.find(([gpu]) => gpu.test(name))?.[1]
}

/** The peak for a GPU without a known data sheet: the fastest product of this run, ours or the rival's, in FLOP/s. */
export function fastestProduct(lines: readonly Line[]): number {
  return Math.max(
    ...lines.filter(isOp).flatMap((l) => [...l.seconds, ...(l.rival?.seconds ?? [])].map((s) => l.flops / s)),
  )
}

/** Bytes per second of every sample of a copy, read and written. */
export function copyRates(lines: readonly Line[]): number[] {
  return lines.flatMap((line) => (line.kind === 'copy' ? line.seconds.map((s) => line.bytes / s) : []))
}

export const isOp = (line: Line): line is OpLine => line.kind === 'op'

/** The least time that both ceilings allow, as a share of the measured time. */
export function ofRoofline({ flops, bytes, seconds }: OpLine, ceilings: Ceilings): number {
  return Math.max(flops / ceilings.flops, bytes / ceilings.bytes) / median(seconds)
}

/** @param shapes name of the sizes of the model; empty if a case has no such sizes. */
export function addFigures(report: Report, shapes: string, line: OpLine, ceilings: Ceilings): void {
  const name = [line.op, line.variant, shapes].filter(Boolean).join('_')
  const note = `${(median(line.seconds) * 1e6).toFixed(1)} µs, ${(100 * ofRoofline(line, ceilings)).toFixed(0)}% of roofline`
  const rate = (seconds: readonly number[]) =>
    seconds.map((s) => (line.flops > 0 ? line.flops / s / 1e12 : line.bytes / s / 1e9))
  const unit = line.flops > 0 ? 'TFLOP/s' : 'GB/s'
  report.figure(name, rate(line.seconds), unit, note)
  if (line.rival) {
    const best = line.rival.algorithms === undefined ? '' : `the best of ${line.rival.algorithms} algorithms`
    report.figure(`${name}_${line.rival.name}`, rate(line.rival.seconds), unit, best)
  }
}

/** One ratio for each op: the geometric mean over its variants and all presets. None for an op that waits for the host. */
export function addRatios(report: Report, lines: readonly OpLine[], ceilings: Ceilings): void {
  const note = 'geometric mean over variants and presets'
  for (const op of new Set(lines.filter((line) => !line.waits).map((line) => line.op))) {
    const those = lines.filter((line) => line.op === op)
    report.ratio(`${op}_of_roofline`, geometricMean(those.map((line) => ofRoofline(line, ceilings))), note)
    const rivals = those.flatMap(({ seconds, rival }) =>
      rival ? [{ name: rival.name, ratio: median(rival.seconds) / median(seconds) }] : [],
    )
    if (rivals.length > 0) {
      report.ratio(`${op}_vs_${rivals[0]!.name}`, geometricMean(rivals.map(({ ratio }) => ratio)), note)
    }
  }
}
