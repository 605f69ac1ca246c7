// PyTorch as a rival on a machine with a GPU: the same vanilla training step, eager and compiled, and the cuBLASLt that its
// packages contain.
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import type { ModelConfig } from '../../lib/index.js'
import { Contender } from '../lib/contender.js'
import { pytorchShape } from '../lib/pytorch_shape.js'
import type { Report } from '../lib/report.js'

/** Its path beside the built files, since the TypeScript compiler copies no Python. */
const script = join('bench', 'baselines', 'pytorch_train_gpu.py')
const check = 'import torch; assert torch.cuda.is_available() and torch.nn.functional.rms_norm'

/** Whether this machine's `python3` has a PyTorch that sees the GPU and is new enough (2.4). */
export function hasPytorch(): boolean {
  return spawnSync('python3', ['-c', check], { stdio: 'ignore' }).status === 0
}

const findCublas =
  'import glob, os, torch; site = os.path.dirname(os.path.dirname(torch.__file__)); ' +
  "print(glob.glob(os.path.join(site, 'nvidia', '*', 'lib', 'libcublasLt.so*'))[0])"

/** The folder of the cuBLASLt in PyTorch's packages, which the system's loader does not search; or null. */
export function cublasFolder(): string | null {
  const { status, stdout } = spawnSync('python3', ['-c', findCublas], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return status === 0 ? dirname(stdout.trim()) : null
}

interface Answer {
  seconds: number[]
  memoryBytes: number
}

export interface OurStep {
  /** Its name in figures. */
  name: string
  config: ModelConfig
  /** Tokens of the one row. */
  length: number
  /** In the same run. */
  seconds: number
}

/** A variant that fails is reported and has no figures; the others still have theirs. */
export async function benchPytorch(report: Report, ours: OurStep, rounds: number): Promise<void> {
  for (const variant of ['eager', 'compiled']) {
    try {
      await benchVariant(report, ours, variant, rounds)
    } catch (error) {
      console.log(`pytorch ${variant}: ${error instanceof Error ? error.message : error}`)
    }
  }
}

/** Runs in a process of its own, so that variants do not share memory that PyTorch keeps. */
async function benchVariant(
  report: Report,
  { name, config, length, seconds }: OurStep,
  variant: string,
  rounds: number,
): Promise<void> {
  const pytorch = await Contender.start('python3', [script])
  const request = { shape: pytorchShape(config), batch: 1, length, warmUp: 3, steps: rounds, seed: 1 }
  const found = await pytorch.ask<Answer>('train', { ...request, compiled: variant === 'compiled' })
  await pytorch.end()
  const id = `pytorch_${name}_${variant}`
  const milliseconds = found.seconds.map((one) => one * 1e3)
  const { median } = report.figure(`${id}_step`, milliseconds, 'ms', `${pytorch.description}, FlashAttention`)
  report.figure(`${id}_memory`, [found.memoryBytes / 2 ** 20], 'MiB', 'the most allocated at once')
  report.ratio(`train_${name}_vs_pytorch_${variant}`, median / 1e3 / seconds, 'step time of PyTorch over ours')
}
