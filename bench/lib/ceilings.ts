// The machine's ceilings: multiply-adds in registers and the read bandwidth (baselines/machine_peak), and oneDNN's fastest
// product (baselines/onednn_products).
import { instructionSet, rivalLimits } from './instruction_set.js'
import { threads } from './machine.js'
import { buildProgram, programPath, runProgram } from './native_programs.js'
import { showProgress } from './progress.js'
import type { Report } from './report.js'

export interface Matmul {
  /** GFLOP/s; normal random inputs. */
  median: number
  size: number
  /** Of the operands: bfloat16 where oneDNN multiplies it faster than float32. */
  precision: 'bfloat16' | 'float32'
  /** What oneDNN calls the kernel it chose. */
  implementation: string
  onednn: string
}

/** The fastest of several square products, and each of them. */
export interface Matmuls {
  peak: Matmul
  sizes: Matmul[]
}

/** Builds what measures the ceilings of the machine itself; to be called before the first measurement. */
export function buildCeilings(): void {
  showProgress('building machine_peak')
  buildProgram('baselines', 'machine_peak')
}

/** Builds the products of oneDNN. Where it is missing, the report says so, and the answer is false. */
export function buildOneDnn(report: Report): boolean {
  showProgress('building onednn_products')
  try {
    buildProgram('baselines', 'onednn_products')
    return true
  } catch {
    report.remark('oneDNN has no rows: onednn_products was not built. Install it: apt-get install libdnnl-dev')
    return false
  }
}

/** Call it before and after the rounds, so that drift shows. Held to the instruction set that is forced. */
export function measureMatmul(): Matmuls {
  showProgress("oneDNN's fastest product")
  const words = ['peak', `${threads}`]
  const sizes = runProgram<Matmul>(programPath('baselines', 'onednn_products'), words, { environment: rivalLimits() })
  return { peak: sizes.reduce((a, b) => (b.median > a.median ? b : a)), sizes }
}

/** GFLOP/s of float32 multiply-adds in registers, all threads together, with the vectors of the set in use. */
export function measureFmaPeak(): number {
  showProgress('multiply-adds in registers')
  return run<{ median: number }>(`fma${vectorBits()}`).median
}

export function vectorBits(set = instructionSet()): 256 | 512 {
  return set === 'avx2' ? 256 : 512
}

/** GB/s of all threads together. */
export function measureReadBandwidth(): number {
  return run<{ median: number }>('bandwidth').median
}

function run<Line>(what: string): Line {
  return runProgram<Line>(programPath('baselines', 'machine_peak'), [what, `${threads}`])[0]!
}
