// A shuffled order of n items that needs no memory: a keyed permutation of 0..n-1.

const ROUNDS = 6

/**
 * The element at `index` of the permutation of 0..n-1 that belongs to `seed` and `epoch` (safe integers; n up to 2^52).
 * A Feistel network permutes a range whose size is a power of four, at least n; results outside 0..n-1 go through it again
 * (cycle walking). That keeps it a permutation and takes fewer than four passes on average.
 */
export function shuffledIndex(index: number, n: number, seed: number, epoch: number): number {
  let halfBits = 1
  while (4 ** halfBits < n) halfBits++
  const half = 2 ** halfBits
  let value = index
  do {
    let left = Math.floor(value / half)
    let right = value % half
    for (let round = 0; round < ROUNDS; round++) {
      const mixed = (left ^ hash(right, round, seed, epoch)) & (half - 1)
      left = right
      right = mixed
    }
    value = left * half + right
  } while (value >= n)
  return value
}

/** A 32-bit hash of safe integers: multiply, shift and xor until every input bit reaches every output bit. */
export function hash(...values: number[]): number {
  let h = 0x9e3779b9
  for (const value of values) {
    for (const word of [value | 0, Math.floor(value / 2 ** 32) | 0]) {
      h = Math.imul(h ^ word, 0x85ebca6b)
      h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
      h ^= h >>> 16
    }
  }
  return h >>> 0
}
