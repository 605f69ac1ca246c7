// The requests of the serve bench: those of nano-vllm's benchmark, 256 requests of 100 to 1024 tokens in and out, scaled
// down to what a CPU serves within seconds.
import { randomTokens } from '../lib/random_tokens.js'

/** The divisor of that benchmark's lengths. */
const lengthScale = 8
const shortest = Math.round(100 / lengthScale)
const longest = Math.round(1024 / lengthScale)

export const requestCount = 256
/** Prompt and generated tokens of the longest request. */
export const contextSize = 2 * longest

export interface ServeRequest {
  prompt: number[]
  /** Exactly this many tokens are generated, since there are no stop tokens. */
  maxTokens: number
}

/**
 * Lengths of prompts and generations are uniformly distributed and the same for every `seed`; the prompts' ids depend on it.
 * @throws {RangeError} for more than `requestCount`.
 */
export function workload(count: number, vocabulary: number, seed: number): ServeRequest[] {
  if (count > requestCount) throw new RangeError(`${count} requests asked for; the workload has ${requestCount}`)
  const lengths = randomTokens(2 * requestCount, longest - shortest + 1, 1)
  return Array.from({ length: count }, (_, i) => ({
    prompt: [...randomTokens(shortest + lengths[2 * i]!, vocabulary, seed * requestCount + i + 1)],
    maxTokens: shortest + lengths[2 * i + 1]!,
  }))
}
