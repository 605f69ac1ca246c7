// The part `ops`: every op over the shapes of the presets, and large square products, against measured copy bandwidth, the
// dense peak and cuBLASLt.
import { join } from 'node:path'
import { Deadline, runCases } from '../lib/cases.js'
import {
  addFigures,
  addRatios,
  type Ceilings,
  copyRates,
  densePeak,
  fastestProduct,
  isOp,
  type Line,
  type OpLine,
} from '../ops/figures.js'
import { type OpCases, type OpShapes, opCases } from '../ops/program.js'
import type { Part } from './part.js'
import { cublasFolder } from './pytorch.js'

export async function ops(part: Part): Promise<void> {
  const { report, deadline, shapes } = part
  const found: OpLine[] = []
  const peak = densePeak(report.result.machine)
  const ceilings: Ceilings = { flops: peak ?? Number.POSITIVE_INFINITY, bytes: Number.POSITIVE_INFINITY }
  const add = (size: string, line: Line): void => {
    if (line.kind === 'copy') {
      const rates = copyRates([line]).map((rate) => rate / 1e9)
      ceilings.bytes = 1e9 * report.figure('copy_bandwidth', rates, 'GB/s', 'read and written').median
    } else if (isOp(line)) {
      found.push(line)
      addFigures(report, size, line, ceilings)
    }
  }
  const cube: OpShapes = { ...shapes.opRows, rows: [shapes.cube] }
  const series: [OpCases, string, OpShapes][] = [
    ['cubes', '', cube],
    ...Object.keys(shapes.ops).map((size): [OpCases, string, OpShapes] => ['ops', size, shapes.opRows]),
  ]
  const folder = cublasFolder()
  const loaderPath = [process.env.LD_LIBRARY_PATH, folder].filter(Boolean).join(':')
  const environment: Record<string, string> = loaderPath === '' ? {} : { LD_LIBRARY_PATH: loaderPath }
  if (folder === undefined) report.remark('no PyTorch with cuBLASLt was found; the system may still have the library')
  for (const [i, [cases, size, rows]] of series.entries()) {
    // Each may take its share of what is left, so that one that is slow costs no other.
    const share = new Deadline(deadline.left() / (series.length - i))
    const config = Object.values(shapes.ops)[Math.max(0, i - 1)]!
    const program = join(part.programs, 'bench', 'ops', 'bench_ops')
    const options = { device: part.device, samples: part.rounds }
    const one = opCases(program, cases, config, rows, options, (line) => add(size, line))
    const named = { ...one, name: `bench_ops ${size || cases}`, environment }
    await runCases(named, share, {
      pass: (name) => report.pass(name),
      fail: (name, why) => report.fail(`${name} ${size}`.trim(), why),
      log: (line) => report.log(line),
    })
  }
  ceilings.flops = peak ?? fastestProduct(found)
  if (Number.isFinite(ceilings.bytes)) addRatios(report, found, ceilings)
}
