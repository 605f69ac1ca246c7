// Times token streams of any contender.
import { withEventLoopDelay } from '../lib/event_loop.js'

export interface Decoded {
  /** One array of `count` tokens for each stream. */
  tokens: number[][]
  /** Seconds from the moment when every stream had its first token until every stream had its last: decoding without prefill. */
  seconds: number
  /** Tokens that arrived in that time, all streams together. */
  counted: number
  /** 99th percentile in milliseconds. */
  eventLoopDelay: number
}

/** Takes `count` tokens of every stream, all at once, and closes them. @throws {Error} if a stream ends before. */
export async function decode(streams: readonly AsyncIterable<number>[], count: number): Promise<Decoded> {
  let started = 0
  let start = 0
  let counted = 0
  const take = async (stream: AsyncIterable<number>): Promise<number[]> => {
    const tokens: number[] = []
    for await (const token of stream) {
      tokens.push(token)
      if (tokens.length === 1 && ++started === streams.length) start = performance.now()
      else if (started === streams.length) counted++
      if (tokens.length === count) return tokens
    }
    throw new Error(`a stream ended after ${tokens.length} of ${count} tokens`)
  }
  const { result: tokens, eventLoopDelay } = await withEventLoopDelay(() => Promise.all(streams.map(take)))
  return { tokens, seconds: (performance.now() - start) / 1000, counted, eventLoopDelay }
}
