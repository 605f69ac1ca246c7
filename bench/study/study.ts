// What a study is: training runs that are compared with one another, each said once, with everything that it needs.
import type { ModelConfig } from '../../lib/config.js'

export interface StudyRun {
  /** What is compared, the same for all seeds: `mor-2.recursion_wise.tokens`. */
  name: string
  /** Of the initial weights and the order of the data. */
  seed: number
  start: FromConfig | FromRun
  steps: number
  learningRate: number
  /** The run whose model is the teacher. */
  teacher?: StudyRun
  /** Further options of `mor train`. */
  options?: readonly string[]
}

/** A run that begins with random weights. */
export interface FromConfig {
  config: ModelConfig
}

/** A run that begins with the model of another one. */
export interface FromRun {
  run: StudyRun
  /** Options of `mor convert`; absent: the model stays as it is. */
  convert?: readonly string[]
}

/** Rows of a step, and tokens of a row. */
export const batchSize = 8
export const length = 512

/** The name of its folder and of its result. */
export function idOf({ name, seed }: Pick<StudyRun, 'name' | 'seed'>): string {
  return `${name}.seed${seed}`
}

/** The runs that `run` needs the models of. */
export function neededBy({ start, teacher }: StudyRun): StudyRun[] {
  return [...('run' in start ? [start.run] : []), ...(teacher === undefined ? [] : [teacher])]
}
