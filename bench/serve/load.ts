// Sends all requests at once to a contender and times their token streams.
import { withEventLoopDelay } from '../lib/event_loop.js'
import type { ServeRequest } from './workload.js'

export interface Latency {
  median: number
  p99: number
}

export interface Load {
  /** Seconds from the start of the first request to the last token of all, prompts included. */
  seconds: number
  /** Generated tokens of all requests together. */
  tokens: number
  /** Milliseconds from the common start to the first token, waiting included. */
  timeToFirstToken: Latency
  /** Milliseconds between two tokens of one request. */
  interTokenLatency: Latency
  /** 99th percentile of this process's event loop, in milliseconds. */
  eventLoopDelay: number
}

/** @throws {Error} if a stream ends before its request's `maxTokens`. */
export async function putLoad(
  requests: readonly ServeRequest[],
  stream: (request: ServeRequest) => AsyncIterable<unknown>,
): Promise<Load> {
  const first: number[] = []
  const between: number[] = []
  const start = performance.now()
  const take = async (request: ServeRequest): Promise<void> => {
    let count = 0
    let last = start
    for await (const _ of stream(request)) {
      const now = performance.now()
      const times = count++ === 0 ? first : between
      times.push(now - last)
      last = now
      if (count === request.maxTokens) return
    }
    throw new Error(`a stream ended after ${count} of ${request.maxTokens} tokens`)
  }
  const { eventLoopDelay } = await withEventLoopDelay(() => Promise.all(requests.map(take)))
  return {
    seconds: (performance.now() - start) / 1000,
    tokens: first.length + between.length,
    timeToFirstToken: latency(first),
    interTokenLatency: latency(between),
    eventLoopDelay,
  }
}

/** @throws {RangeError} if there are no times. */
export function latency(times: readonly number[]): Latency {
  if (times.length === 0) throw new RangeError('no latency of 0 times')
  const sorted = [...times].sort((a, b) => a - b)
  const at = (share: number): number => sorted[Math.ceil(share * sorted.length) - 1]!
  return { median: at(0.5), p99: at(0.99) }
}
