// The machine's ceilings: oneDNN's largest bf16 product and the read bandwidth, measured by baselines/onednn_peak.
import { threads } from './machine.js'
import { buildProgram, programPath, runProgram } from './native_programs.js'

export interface Matmul {
  /** GFLOP/s; normal random inputs. */
  median: number
  size: number
  /** What oneDNN calls the kernel it chose. */
  implementation: string
  onednn: string
}

export interface ReadBandwidth {
  /** GB/s of all threads together. */
  median: number
}

/** The fastest of several square products, and each of them; call it before and after the rounds, so that drift shows. */
export function measureMatmul(): { peak: Matmul; sizes: Matmul[] } {
  const sizes = run<Matmul>('matmul')
  return { peak: sizes.reduce((a, b) => (b.median > a.median ? b : a)), sizes }
}

/** As `measureMatmul`, for reading. */
export function measureReadBandwidth(): ReadBandwidth {
  return run<ReadBandwidth>('bandwidth')[0]!
}

function run<Line>(what: 'matmul' | 'bandwidth'): Line[] {
  return runProgram(programPath('baselines', 'onednn_peak'), [what, `${threads}`])
}

/** To be called before the first measurement. */
export function buildCeilings(): void {
  buildProgram('baselines', 'onednn_peak')
}
