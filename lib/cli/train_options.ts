// The options of `mor train` and their defaults.
import { show } from '../check.js'
import { MorError } from '../errors.js'
import type { LoadOptions } from '../model.js'
import type { DType } from '../native/model.js'
import type { ParameterGroup } from '../parameter_groups.js'
import type { Schedule } from '../trainer_options.js'
import type { RunSettings } from './run_folder.js'

/** What a new run needs to know, with the defaults filled in. */
export interface CourseOptions extends Omit<RunSettings, 'dataset' | 'length'>, Pick<LoadOptions, 'dtype'> {
  tokenizer: string
  textField: string
  validationFraction: number
  learningRate: number
  schedule: Schedule['type']
  weightDecay: number
  gradientClip: number
}

/** The options as they were given. A run that is resumed has its own values in the place of the defaults. */
export interface TrainOptions extends Partial<CourseOptions>, Pick<LoadOptions, 'device' | 'threads' | 'nice'> {
  output: string
  resume?: boolean
  /** A preset or a JSON file. */
  config?: string
  /** In place of config: the checkpoint that a new run starts from. */
  from?: string
  /** Files with text, also as patterns, one dataset folder, or dataset folders with weights, each `folder=weight`. */
  data?: string[]
  /** Default: the context of the model, at most 512. */
  length?: number
  /** Only for a schedule with a warm-up or a cool-down; default: the trainer's. */
  warmupSteps?: number
  cooldownSteps?: number
  recompute?: boolean
  /** In which gradients travel between ranks; default: the trainer's. */
  gradientDtype?: DType
  /** Steps between comparisons of the weights of ranks; default: the trainer's, or that of the run that is resumed. */
  weightHashInterval?: number
  /** Patterns of tensors that stay as they are. */
  freeze?: string[]
  /** Each `pattern=rate`. */
  learningRateOf?: string[]
  /** Steps until all recursions run; default: they always do. */
  depthScheduleSteps?: number
  /** Share of the steps that run fewer recursions. */
  depthDropout?: number
  /** In place of the model's. */
  capacityWarmupSteps?: number
  /** The checkpoint whose predictions are learned. */
  teacher?: string
  /** Only with a teacher; default: the trainer's. */
  distillationTemperature?: number
  distillationWeight?: number
}

export const trainDefaults: CourseOptions = {
  tokenizer: 'byte-level',
  textField: 'text',
  validationFraction: 0.05,
  batchSize: 16,
  gradientAccumulation: 1,
  steps: 1000,
  learningRate: 1e-3,
  schedule: 'trapezoid',
  weightDecay: 0.1,
  gradientClip: 1,
  seed: 0,
  evalEvery: 100,
  evalBatches: 50,
  saveEvery: 500,
  dtype: 'bfloat16',
}

/**
 * What --freeze and --learning-rate-of ask for.
 * @throws {MorError} INVALID_ARGUMENT for a rate that is not `pattern=rate`
 */
export function parameterGroupsOf({ freeze = [], learningRateOf = [] }: TrainOptions): ParameterGroup[] {
  const rates = learningRateOf.map((text): ParameterGroup => {
    const [, pattern, rate] = /^(.+)=([^=]+)$/.exec(text) ?? []
    const learningRate = Number(rate)
    if (pattern !== undefined && Number.isFinite(learningRate) && learningRate >= 0) return { pattern, learningRate }
    throw new MorError(
      'INVALID_ARGUMENT',
      `--learning-rate-of is ${show(text)}; it must be a pattern of names and a rate, such as model.routers.*=1e-3`,
    )
  })
  return [...freeze.map((pattern) => ({ pattern, frozen: true })), ...rates]
}

/** `learningRate` → `--learning-rate`. */
export function flagOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}
