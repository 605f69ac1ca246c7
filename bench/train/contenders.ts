// The answers of both contenders of the training bench, and how each is started.
import { join } from 'node:path'
import { Contender } from '../lib/contender.js'
import { threads } from '../lib/machine.js'
import { pytorchShape } from '../lib/pytorch_shape.js'
import { type ModelName, models } from './shapes.js'

export const precisions = ['bfloat16', 'autocast', 'float32'] as const
export type Precision = (typeof precisions)[number]

export interface StepAnswer {
  /** One for each step. */
  seconds: number[]
  loss: number
}

/** Only of our contender. */
export interface OurStepAnswer extends StepAnswer {
  /** Executed floating-point operations of one step, by the trainer's own count. */
  flops: number
  /** The memory of trainer and model, as the trainer reports it. */
  memoryBytes: number
  /** 99th percentile in milliseconds while the steps ran. */
  eventLoopDelay: number
}

export interface MemoryAnswer {
  /** Resident memory before the first model was built, and at its peak. */
  startBytes: number
  peakBytes: number
}

export async function startOurs(names: readonly ModelName[]): Promise<Contender> {
  const contender = await Contender.startTypeScript(join(__dirname, 'worker.ts'))
  for (const name of names) await contender.ask('build', { name, config: models[name], threads })
  return contender
}

/** Debian's interpreter, which has python3-torch. */
const python = '/usr/bin/python3'
/** By default glibc returns freed memory to the kernel at once, which costs PyTorch about 15% of a step in page faults. */
const environment = {
  GLIBC_TUNABLES: 'glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1',
}

export function startPytorch(): Promise<Contender> {
  return Contender.start(python, [join(__dirname, '..', 'baselines', 'pytorch_train.py')], environment)
}

/** `step` refers to the model by `name`; building a name again replaces it. */
export function buildPytorch(
  contender: Contender,
  name: string,
  model: ModelName,
  precision: Precision,
): Promise<object> {
  return contender.ask('build', { name, shape: pytorchShape(models[model]), precision, threads })
}
