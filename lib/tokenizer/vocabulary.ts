// Whether a tokenizer and a model fit each other.
import { type ErrorCode, MorError } from '../errors.js'
import type { Tokenizer } from './interface.js'

/**
 * Fails where texts may get ids that the model does not have. Added tokens that no text gets by itself, such as a padding
 * token, need not fit; a text in which one is written is refused when it comes.
 * @param where begins the message
 */
export function checkVocabulary(
  tokenizer: Tokenizer,
  vocabSize: number,
  where: string,
  code: ErrorCode = 'INVALID_ARGUMENT',
): void {
  if (tokenizer.minVocabSize <= vocabSize) return
  throw new MorError(
    code,
    `${where}: the tokenizer ${tokenizer.name} has ${tokenizer.minVocabSize} ids, but vocab_size of the model is ${vocabSize}: ` +
      'give the tokenizer that the model was trained with, or make vocab_size of a new model larger',
  )
}
