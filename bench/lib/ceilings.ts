// The machine's ceilings: oneDNN's largest bf16 product and the read bandwidth. Builds and runs baselines/onednn_peak.
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { threads } from './machine.js'

const root = join(__dirname, '..', '..')
const build = join(root, 'build', 'bench')

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
  bytes: number
}

/** The fastest of several square products, and each of them; call it before and after the rounds, so that drift shows. */
export function measureMatmul(): { peak: Matmul; sizes: Matmul[] } {
  const lines = run<Matmul & { kind: string }>('matmul')
  return { peak: lines.at(-1)!, sizes: lines.filter(({ kind }) => kind === 'matmul') }
}

/** As `measureMatmul`, for reading. */
export function measureReadBandwidth(): ReadBandwidth {
  return run<ReadBandwidth>('bandwidth').at(-1)!
}

function run<Line>(what: 'matmul' | 'bandwidth'): Line[] {
  const program = join(build, 'bench', 'baselines', 'onednn_peak')
  const lines = execFileSync(program, [what, '--threads', `${threads}`], { encoding: 'utf8' })
  return lines
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)
}

/** Configures and builds the one program; nothing else of the project is compiled. */
export function buildCeilings(): void {
  const cmake = (...arguments_: string[]): void => {
    execFileSync('cmake', arguments_, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  }
  cmake('-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '-DMOR_BUILD_BENCH=ON', '-DMOR_CUDA=OFF')
  cmake('--build', build, '--target', 'onednn_peak')
}
