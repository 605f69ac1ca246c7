// What --teacher and its options ask of a new run.
import { MorError } from '../errors.js'
import { Model } from '../model.js'
import type { DistillationOptions } from '../trainer_options.js'
import { flagOf, type TrainOptions, trainDefaults } from './train_options.js'

/** Throws `INVALID_ARGUMENT` for options of a teacher without one, and what `Model.load` throws. */
export async function loadDistillation(
  options: TrainOptions,
  signal: AbortSignal,
): Promise<DistillationOptions | null> {
  const { teacher, device, threads, nice, dtype = trainDefaults.dtype } = options
  if (teacher !== undefined) {
    return {
      teacher: await Model.load(teacher, { device, threads, nice, dtype, signal }),
      temperature: options.distillationTemperature,
      weight: options.distillationWeight,
    }
  }
  for (const name of ['distillationTemperature', 'distillationWeight'] as const) {
    if (options[name] === undefined) continue
    throw new MorError(
      'INVALID_ARGUMENT',
      `${flagOf(name)} is ${options[name]}, but there is no ${flagOf('teacher')}: give both or neither`,
    )
  }
  return null
}
