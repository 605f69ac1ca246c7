// What --teacher and its options ask of a new run, and whether the teacher fits.
import { show } from '../check.js'
import type { ResolvedConfig } from '../config.js'
import { MorError } from '../errors.js'
import { Model } from '../model.js'
import { openCheckpoint } from '../open_checkpoint.js'
import { Tokenizer } from '../tokenizer.js'
import type { DistillationOptions } from '../trainer_options.js'
import { flagOf, type TrainOptions, trainDefaults } from './train_options.js'

/** Throws `INVALID_ARGUMENT` for options of a teacher without one. */
export function checkTeacherOptions(options: TrainOptions): void {
  if (options.teacher !== undefined) return
  for (const name of ['distillationTemperature', 'distillationWeight'] as const) {
    if (options[name] === undefined) continue
    throw new MorError(
      'INVALID_ARGUMENT',
      `${flagOf(name)} is ${options[name]}, but there is no ${flagOf('teacher')}: give both or neither`,
    )
  }
}

/** Throws what `Model.load` throws. */
export async function loadDistillation(
  options: TrainOptions,
  signal: AbortSignal,
): Promise<DistillationOptions | null> {
  const { teacher, device, threads, nice, dtype = trainDefaults.dtype } = options
  if (teacher === undefined) return null
  return {
    teacher: await Model.load(teacher, { device, threads, nice, dtype, signal }),
    temperature: options.distillationTemperature,
    weight: options.distillationWeight,
  }
}

/** What is taught: the checkpoint or the configuration that it was named by, and what a teacher must share with it. */
interface Taught {
  source: string
  config: ResolvedConfig
  tokenizer: Tokenizer
}

/**
 * Checks before text is prepared that the teacher has the vocabulary of the model: as many ids, and the same tokens under them. Tokens
 * that only one of the two has, such as a padding token that was added, may differ, and a teacher may have no tokenizer.
 * @throws {MorError} INVALID_ARGUMENT, and what opening a checkpoint and loading a tokenizer throw
 */
export async function checkTeacher(teacher: string, { source, config, tokenizer }: Taught): Promise<void> {
  const opened = await openCheckpoint(teacher)
  const { vocab_size: size } = opened.config
  if (size !== config.vocab_size) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `--teacher is ${teacher}, whose vocab_size is ${size}, but that of ${source} is ${config.vocab_size}: give a teacher of the same vocabulary, such as the model that ${source} was made of`,
    )
  }
  const own = await tokenizerOf(teacher)
  if (own === null || own.fingerprint === tokenizer.fingerprint) return
  const text = (of: Tokenizer, id: number) => of.decode([id], { skipSpecialTokens: false })
  for (let id = 0; id < Math.min(own.vocabSize, tokenizer.vocabSize); id++) {
    const [taught, known] = [text(own, id), text(tokenizer, id)]
    if (taught === known || taught === '' || known === '') continue
    throw new MorError(
      'INVALID_ARGUMENT',
      `--teacher is ${teacher}, whose token ${id} is ${show(taught)}, but in the tokenizer ${tokenizer.name} it is ${show(known)}: give a teacher of the same tokens, such as the model that ${source} was made of`,
    )
  }
}

/** Null where the checkpoint has none. */
async function tokenizerOf(checkpoint: string): Promise<Tokenizer | null> {
  try {
    return await Tokenizer.load(checkpoint)
  } catch (error) {
    if (error instanceof MorError && error.code === 'CHECKPOINT_MISSING') return null
    throw error
  }
}
