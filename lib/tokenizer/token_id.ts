// The check that every decoder makes of its ids.
import { MorError } from '../errors.js'

/** Returns `id` if it is a non-negative integer; throws `TOKEN_OUT_OF_RANGE` naming its index otherwise. */
export function checkTokenId(id: number, index: number): number {
  if (Number.isInteger(id) && id >= 0) return id
  throw new MorError('TOKEN_OUT_OF_RANGE', `token ${index} is ${id}: token ids are integers from 0`)
}
