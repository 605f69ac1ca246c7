// The op bench: compares every op of a device, over the shapes of the presets, with the machine's ceilings and cuBLASLt.
import { type PresetSize, presetSizes, presets } from '../../lib/presets.js'
import { buildCeilings, buildOneDnn, measureFmaPeak, measureMatmul } from '../lib/ceilings.js'
import { machine } from '../lib/machine.js'
import { buildProgram, runProgram } from '../lib/native_programs.js'
import { showProgress } from '../lib/progress.js'
import { Report } from '../lib/report.js'
import { geometricMean, median } from '../lib/statistics.js'

/** What bench_ops prints, one object a line. */
type Line =
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
      rival?: { name: string; seconds: number[] }
    }

export type OpLine = Extract<Line, { kind: 'op' }>

/** Operations and bytes per second that no op can exceed. */
export interface Ceilings {
  flops: number
  bytes: number
}

/** Milliseconds after which a device counts as hanging, so that the benches after this one still run. */
const timeLimit = 600_000

/** FLOP/s of dense bf16 products from the manufacturers' data sheets. */
const densePeaks: [gpu: RegExp, flops: number][] = [
  [/H[12]00|GH200/, 989e12],
  [/A100|A800/, 312e12],
]

/** @param program a built bench_ops; without one it is built. */
export async function benchOps(
  rounds: number,
  device: string,
  program = buildProgram('ops', 'bench_ops'),
): Promise<Report> {
  const onCpu = device === 'cpu'
  const lines = new Map<PresetSize, Line[]>()
  for (const size of presetSizes) {
    showProgress(`every op at the shapes of ${size}`)
    lines.set(size, run(program, size, device, rounds))
  }
  const all = [...lines.values()].flat()
  const name = all.find((line) => line.kind === 'device')!.name
  const report = new Report('ops', onCpu ? machine() : `${name}; ${machine()}`)
  const copies = all.filter((line) => line.kind === 'copy')
  const copyRates = copies.flatMap(({ bytes, seconds }) => seconds.map((s) => bytes / s))
  report.figure('copy_bandwidth', copyRates.map(giga), 'GB/s', 'read and written')
  const peak = onCpu ? cpuPeak(report) : { flops: gpuPeak(name, all), what: name }
  const ceilings = { flops: peak.flops, bytes: median(copyRates) }
  report.figure('dense_peak', [peak.flops / 1e12], 'TFLOP/s', peak.what)
  for (const size of presetSizes) {
    for (const line of lines.get(size)!) if (line.kind === 'op') addFigures(report, size, line, ceilings)
  }
  addRatios(report, all.filter(isOp), ceilings)
  return report
}

/** The least time that both ceilings allow, as a share of the measured time. */
export function ofRoofline({ flops, bytes, seconds }: OpLine, ceilings: Ceilings): number {
  return Math.max(flops / ceilings.flops, bytes / ceilings.bytes) / median(seconds)
}

function addFigures(report: Report, size: PresetSize, line: OpLine, ceilings: Ceilings): void {
  const name = [line.op, line.variant, size].filter(Boolean).join('_')
  const note = `${(median(line.seconds) * 1e6).toFixed(1)} µs, ${(100 * ofRoofline(line, ceilings)).toFixed(0)}% of roofline`
  const rate = (seconds: readonly number[]) =>
    seconds.map((s) => (line.flops > 0 ? line.flops / s / 1e12 : giga(line.bytes / s)))
  const unit = line.flops > 0 ? 'TFLOP/s' : 'GB/s'
  report.figure(name, rate(line.seconds), unit, note)
  if (line.rival) report.figure(`${name}_${line.rival.name}`, rate(line.rival.seconds), unit)
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

const giga = (value: number): number => value / 1e9
const isOp = (line: Line): line is OpLine => line.kind === 'op'

/** oneDNN's fastest product, or where oneDNN is missing or slower, the multiply-adds in registers. */
function cpuPeak(report: Report): { flops: number; what: string } {
  buildCeilings()
  const fma = { flops: measureFmaPeak() * 1e9, what: 'float32 multiply-adds in registers, measured' }
  if (!buildOneDnn(report)) return fma
  const { median, precision } = measureMatmul().peak
  const product = { flops: median * 1e9, what: `oneDNN, ${precision}, measured` }
  return product.flops > fma.flops ? product : fma
}

/** The peak for a GPU without a known data sheet: the fastest product of this run, ours or the rival's. */
function gpuPeak(name: string, lines: readonly Line[]): number {
  const known = densePeaks.find(([gpu]) => gpu.test(name))
  if (known !== undefined) return known[1]
  return Math.max(
    ...lines.filter(isOp).flatMap((l) => [...l.seconds, ...(l.rival?.seconds ?? [])].map((s) => l.flops / s)),
  )
}

function run(program: string, size: PresetSize, device: string, samples: number): Line[] {
  const config = presets[size]
  const rows = device === 'cpu' ? 256 : 2048
  const options = {
    cases: 'ops',
    device,
    dtype: 'bfloat16',
    samples,
    rows,
    'batch-rows': device === 'cpu' ? rows : 16 * rows,
    hidden: config.hidden_size,
    intermediate: config.intermediate_size,
    heads: config.num_attention_heads,
    'key-value-heads': config.num_key_value_heads,
    'head-dim': config.head_dim,
    vocabulary: config.vocab_size,
  }
  const words = Object.entries(options).flatMap(([key, value]) => [`--${key}`, `${value}`])
  return runProgram(program, words, { timeout: timeLimit })
}
