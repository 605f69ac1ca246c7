// What is reported of a generated token.

/** A token of the vocabulary and the natural logarithm of its probability. */
export interface TokenLogprob {
  token: number
  logprob: number
}

export interface GeneratedToken {
  token: number
  /** Recursions of the pass that produced the token: 1..N, or 0 where the router made it skip the block. */
  depth: number
  /** Natural logarithm of the probability the model gave it. */
  logprob: number
  /**
   * The most likely tokens at its position, the most likely first, equally likely ones in the order of their ids. The
   * generated one is among them only if it is that likely. Fewer than asked for where the vocabulary has no more. Present
   * exactly when asked for.
   */
  topLogprobs?: TokenLogprob[]
}
