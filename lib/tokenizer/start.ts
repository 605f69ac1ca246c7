// What a generation starts from where the prompt is empty.
import type { Tokenizer } from './interface.js'

/**
 * A model needs at least one token to start from. An empty prompt becomes the begin token, or else the end token of a text
 * before; null where the tokenizer has neither.
 */
export function startOf(
  ids: Int32Array,
  { bosTokenId, eosTokenId }: Pick<Tokenizer, 'bosTokenId' | 'eosTokenId'>,
): Int32Array | null {
  if (ids.length > 0) return ids
  const start = bosTokenId ?? eosTokenId
  return start === null ? null : Int32Array.of(start)
}
