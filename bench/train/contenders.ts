// The answers of both contenders of the training bench, and how each is started.
import { join } from 'node:path'
import { Contender } from '../lib/contender.js'
import { rivalLimits } from '../lib/instruction_set.js'
import { threads } from '../lib/machine.js'
import { pytorchShape } from '../lib/pytorch_shape.js'
import { type ModelName, models } from './shapes.js'

/** float32 comes first, since every processor multiplies it: what it takes says how long to wait for the others. */
export const precisions = ['float32', 'bfloat16', 'autocast'] as const
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

export interface StepRequest {
  name: string
  batch: number
  length: number
  /** At most; after two steps none begins later than `limit` seconds after the first one. */
  steps: number
  limit: number
  seed: number
}

/** What PyTorch computes with. */
export interface Libraries {
  /** The libraries that are loaded after a float32 product. */
  files: string[]
  /** Of PyTorch's own loops. */
  capability: string
}

/** Parts of the paths of libraries that multiply float32; the reference BLAS, which is not made for speed, comes last. */
const blasFiles: [part: string, name: string][] = [
  ['libmkl_', 'MKL'],
  ['openblas', 'OpenBLAS'],
  ['blis', 'BLIS'],
  ['atlas', 'ATLAS'],
  ['libblas.so', 'reference'],
]

/** The BLAS among loaded files. Debian's alternatives are all named libblas.so.3, in folders of their own. */
export function blasOf(files: readonly string[]): string {
  return blasFiles.find(([part]) => files.some((file) => file.includes(part)))?.[1] ?? 'unknown'
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

/** Held to the instruction set that is forced. @throws {Error} if it has no PyTorch. */
export function startPytorch(): Promise<Contender> {
  const program = join(__dirname, '..', 'baselines', 'pytorch_train.py')
  return Contender.start(python, [program], { ...environment, ...rivalLimits() })
}

/** What to do about a BLAS with which float32 says nothing of PyTorch; undefined where it is a fast one. */
export function blasAdvice(blas: string, forced: string | undefined): string | undefined {
  if (blas === 'reference')
    return 'its BLAS is the reference one. Install a fast one: apt-get install libopenblas0-pthread'
  if (forced !== undefined && blas !== 'OpenBLAS')
    return `its BLAS (${blas}) cannot be held to ${forced}, as OpenBLAS can`
  return undefined
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
