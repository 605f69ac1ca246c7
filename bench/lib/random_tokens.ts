// Uniform token ids from a seed, the same on every run.

/** `count` ids below `vocabulary`. */
export function randomTokens(count: number, vocabulary: number, seed: number): Int32Array {
  let state = (seed * 0x9e3779b9) >>> 0 || 1
  return Int32Array.from({ length: count }, () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return Math.floor((state / 2 ** 32) * vocabulary)
  })
}
