// What a new run starts from: the configuration of a new model, or a checkpoint.
import type { ResolvedConfig } from '../config.js'
import { MorError } from '../errors.js'
import { Model } from '../model.js'
import type { Tokenizer } from '../tokenizer.js'
import { Trainer } from '../trainer.js'
import type { TrainerOptions } from '../trainer_options.js'
import { findConfig, findNewConfig } from './config_source.js'
import { findCheckpointTokenizer, findTokenizer } from './tokenizer_source.js'
import { type TrainOptions, trainDefaults } from './train_options.js'

interface Start {
  /** As it was named. */
  source: string
  config: ResolvedConfig
  tokenizer: Tokenizer
  makeTrainer(options: TrainerOptions, signal: AbortSignal): Promise<Trainer>
}

/**
 * Throws `INVALID_ARGUMENT` unless --config or --from is given, and what `findNewConfig`, `findCheckpointTokenizer` and
 * `Model.load` throw; `INVALID_ARGUMENT` too for a tokenizer with more ids than the checkpoint has.
 */
export async function findStart(options: TrainOptions): Promise<Start> {
  const { config: source, from, device, threads, nice } = options
  const { dtype, seed, tokenizer: tokenizerSource } = { ...trainDefaults, ...options }
  if (from === undefined) {
    if (source === undefined) {
      throw new MorError(
        'INVALID_ARGUMENT',
        'a new run needs a model: give --config for a new one, --from to start from a checkpoint, or --resume to go on with a run',
      )
    }
    const tokenizer = await findTokenizer(tokenizerSource)
    const config = await findNewConfig(source, tokenizer)
    const makeTrainer = async (options: TrainerOptions, signal: AbortSignal) => {
      const model = await Model.create(config, { device, dtype, threads, nice, seed, tokenizer, signal })
      try {
        return new Trainer(model, options)
      } catch (error) {
        await model.dispose()
        throw error
      }
    }
    return { source, config, tokenizer, makeTrainer }
  }
  if (source !== undefined) {
    throw new MorError('INVALID_ARGUMENT', '--config and --from are both given: a checkpoint has its own configuration')
  }
  const tokenizer = await findCheckpointTokenizer(from, options.tokenizer)
  const config = await findConfig(from)
  if (tokenizer.minVocabSize > config.vocab_size) {
    throw new MorError(
      'INVALID_ARGUMENT',
      `the tokenizer ${tokenizer.name} has ${tokenizer.minVocabSize} ids, but vocab_size of ${from} is ${config.vocab_size}`,
    )
  }
  const makeTrainer = (options: TrainerOptions, signal: AbortSignal) =>
    Trainer.fromCheckpoint(from, { ...options, device, dtype, threads, nice, tokenizer, signal })
  return { source: from, config, tokenizer, makeTrainer }
}
