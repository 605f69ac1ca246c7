// Reads the option `tokenizer`, which Model.create and the engine have.
import { type Checker, show } from '../check.js'
import type { Tokenizer } from './interface.js'

/**
 * Null where it is not given.
 * @throws {MorError} with the checker's code for what is no tokenizer
 */
export function readTokenizer(check: Checker): Tokenizer | null {
  if (!check.has('tokenizer')) return null
  const tokenizer = check.object.tokenizer as Tokenizer
  if (typeof tokenizer.encode === 'function' && typeof tokenizer.filesFor === 'function') return tokenizer
  return check.fail(`tokenizer is ${show(tokenizer)}; give Tokenizer.byteLevel() or what Tokenizer.load resolves to`)
}
