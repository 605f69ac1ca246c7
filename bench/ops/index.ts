// The op bench: compares every op of a device, over the shapes of the presets, with the machine's ceilings and cuBLASLt.
import { type PresetSize, presetSizes, presets } from '../../lib/presets.js'
import { Deadline, runCases } from '../lib/cases.js'
import { buildCeilings, buildOneDnn, measureFmaPeak, measureMatmul } from '../lib/ceilings.js'
import { machine } from '../lib/machine.js'
import { buildProgram } from '../lib/native_programs.js'
import { showProgress } from '../lib/progress.js'
import { Report } from '../lib/report.js'
import { median } from '../lib/statistics.js'
import { addFigures, addRatios, copyRates, densePeak, fastestProduct, isOp, type Line } from './figures.js'
import { opCases, shapesOf } from './program.js'

/** Seconds after which the shapes of a preset count as hanging, so that those after it still run. */
const timeLimit = 1800

export async function benchOps(rounds: number, device: string): Promise<Report> {
  const onCpu = device === 'cpu'
  const program = buildProgram('ops', 'bench_ops')
  const lines = new Map<PresetSize, Line[]>()
  const failures: string[] = []
  for (const size of presetSizes) {
    showProgress(`every op at the shapes of ${size}`)
    const found: Line[] = []
    const cases = opCases(program, 'ops', presets[size], shapesOf(device), { device, samples: rounds }, (line) =>
      found.push(line),
    )
    await runCases(cases, new Deadline(timeLimit), {
      pass() {},
      fail: (name, why) => failures.push(`${name} of ${size} has no figure: ${why}`),
      log() {},
    })
    lines.set(size, found)
  }
  const all = [...lines.values()].flat()
  const name = all.find((line) => line.kind === 'device')?.name
  const report = new Report('ops', onCpu ? machine() : `${name ?? device}; ${machine()}`)
  for (const failure of failures) report.remark(failure)
  const copies = copyRates(all)
  if (copies.length === 0) throw new Error(['the op bench measured nothing', ...failures].join('\n'))
  report.figure(
    'copy_bandwidth',
    copies.map((rate) => rate / 1e9),
    'GB/s',
    'read and written',
  )
  const peak = onCpu ? cpuPeak(report) : { flops: densePeak(name!) ?? fastestProduct(all), what: name! }
  const ceilings = { flops: peak.flops, bytes: median(copies) }
  report.figure('dense_peak', [peak.flops / 1e12], 'TFLOP/s', peak.what)
  for (const size of presetSizes)
    for (const line of lines.get(size)!.filter(isOp)) addFigures(report, size, line, ceilings)
  addRatios(report, all.filter(isOp), ceilings)
  return report
}

/** oneDNN's fastest product, or where oneDNN is missing or slower, the multiply-adds in registers. */
function cpuPeak(report: Report): { flops: number; what: string } {
  buildCeilings()
  const fma = { flops: measureFmaPeak() * 1e9, what: 'float32 multiply-adds in registers, measured' }
  if (!buildOneDnn(report)) return fma
  const { median, precision } = measureMatmul().peak
  const product = { flops: median * 1e9, what: `oneDNN, ${precision}, measured` }
  return product.flops > fma.flops ? product : fma
}
