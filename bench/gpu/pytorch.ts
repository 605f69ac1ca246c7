// The part `pytorch`: the vanilla training step in PyTorch, eager and compiled, and the cuBLASLt that its packages contain.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Part } from './part.js'
import { runWorker } from './work.js'
import type { PytorchFact, PytorchRequest } from './work_pytorch.js'
import type { TrainFact } from './work_train.js'

/** Seconds of one variant at one batch; compiling takes most of them. */
const caseSeconds = 150

const check = 'import torch; assert torch.nn.functional.rms_norm; print(torch.cuda.is_available())'

/** Whether this machine's `python3` has a PyTorch that is new enough (2.4) and sees the GPU. */
function python(words: string): string | undefined {
  const { status, stdout } = spawnSync('python3', ['-c', words], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: 60_000,
  })
  return status === 0 ? stdout.trim() : undefined
}

const findCublas =
  'import glob, os, torch; site = os.path.dirname(os.path.dirname(torch.__file__)); ' +
  "print(glob.glob(os.path.join(site, 'nvidia', '*', 'lib', 'libcublasLt.so*'))[0])"

/** The folder of the cuBLASLt in PyTorch's packages, which the system's loader does not search. */
export function cublasFolder(): string | undefined {
  const path = python(findCublas)
  return path === undefined ? undefined : dirname(path)
}

export async function pytorch(part: Part): Promise<void> {
  const { report, shapes, folder } = part
  const seesGpu = python(check)
  if (seesGpu === undefined || (seesGpu === 'False' && part.device !== 'cpu'))
    return report.remark('no python3 with PyTorch 2.4 or newer that sees the GPU was found')
  const ours = trainFacts(join(folder, 'train.json'))
  for (const batch of shapes.batches)
    for (const variant of ['eager', 'compiled'] as const) {
      const name = `${variant}_${batch.rows}x${batch.length}`
      const request: PytorchRequest = { name, config: shapes.train.vanilla, batch, compiled: variant === 'compiled' }
      const job = { work: 'pytorch', name: `PyTorch ${name}`, seconds: caseSeconds, request } as const
      const theirs = (await runWorker(part, job))[name] as PytorchFact | undefined
      const own = ours[`vanilla_${batch.rows}x${batch.length}`]
      if (theirs !== undefined && own !== undefined)
        report.ratio(`train_vs_pytorch_${name}`, theirs.seconds / own.seconds, 'step time of PyTorch over ours')
    }
  if (Object.keys(ours).length === 0)
    report.remark('there is no ratio to our steps: the part train has no file in this folder')
}

/** What the part `train` found on this machine; empty if it has not run. */
function trainFacts(path: string): Partial<Record<string, TrainFact>> {
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Record<string, TrainFact>) : {}
}
