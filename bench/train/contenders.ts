// What both contenders of the training bench answer, and how each is started. Must not know the order of the rounds.
import { join } from 'node:path'
import { Contender } from '../lib/contender.js'
import { threads } from '../lib/machine.js'
import { pytorchShape } from '../lib/pytorch_shape.js'
import { type ModelName, models } from './shapes.js'

export const precisions = ['bfloat16', 'autocast', 'float32'] as const
export type Precision = (typeof precisions)[number]

export interface StepAnswer {
  /** One a step. */
  seconds: number[]
  loss: number
}

/** Ours alone. */
export interface OurStepAnswer extends StepAnswer {
  /** Executed floating-point operations of one step, by the trainer's own count. */
  flops: number
  /** What the trainer says it and its model hold. */
  memoryBytes: number
  /** 99th percentile in milliseconds while the steps ran. */
  eventLoopDelay: number
}

export interface MemoryAnswer {
  /** Resident before the first model was built, and at its most. */
  startBytes: number
  peakBytes: number
}

export async function startOurs(names: readonly ModelName[]): Promise<Contender> {
  const contender = await Contender.startTypeScript(join(__dirname, 'worker.ts'))
  for (const name of names) await contender.ask('build', { name, config: models[name], threads })
  return contender
}

/** Debian's interpreter: the one that has python3-torch. */
const python = '/usr/bin/python3'
/** glibc gives freed memory back to the kernel at once, and PyTorch pays for that in page faults: about 15% of a step. */
const environment = {
  GLIBC_TUNABLES: 'glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1',
}

export function startPytorch(): Promise<Contender> {
  return Contender.start(python, [join(__dirname, '..', 'baselines', 'pytorch_train.py')], environment)
}

/** `name` is what `step` calls it; building a name again replaces it. */
export function buildPytorch(
  contender: Contender,
  name: string,
  model: ModelName,
  precision: Precision,
): Promise<object> {
  return contender.ask('build', { name, shape: pytorchShape(models[model]), precision, threads })
}
