// The requests of a soak: random prompts, lengths and ends.
import { Random } from './random.js'

export interface PlannedRequest {
  body: Record<string, unknown>
  choices: number
  /** Milliseconds to wait before it is sent. */
  pauseMs: number
  /**
   * What becomes of it. `read`: the client reads to the end; `slowly`: the same with pauses; `leave`: the client
   * disconnects after `leaveMs`; `wrong`: the server must refuse it; `known`: it must give the text that the same request
   * gave before the load.
   */
  fate: 'read' | 'slowly' | 'leave' | 'wrong' | 'known'
  leaveMs: number
}

const SHARED_PREFIX = 'All of these prompts begin with the same words, which a cache may keep; '

/** Requests whose answers are recorded before the load. */
export function knownBodies(model: string): Record<string, unknown>[] {
  const random = new Random(99)
  return Array.from({ length: 8 }, (_, seed) => ({
    model,
    prompt: SHARED_PREFIX.slice(0, 20 * seed) + randomText(random, 20),
    max_tokens: 40,
    seed,
    ...(seed % 2 === 1 && { temperature: 0 }),
    ...(seed % 3 === 1 && { max_recursions: 2 }),
  }))
}

export function* plan(model: string, requests: number, seed: number): Generator<PlannedRequest> {
  const random = new Random(seed)
  const known = knownBodies(model)
  for (let i = 0; i < requests; i++) {
    const fate = pickFate(random)
    const choices = fate === 'known' || random.chance(0.8) ? 1 : random.integer(2, 4)
    const body = {
      model,
      prompt: (random.chance(0.3) ? SHARED_PREFIX : '') + randomText(random, random.integer(1, 100)),
      max_tokens: random.integer(1, 80),
      n: choices,
      stream: random.chance(0.75),
      temperature: random.integer(0, 2),
      router_threshold: random.next(),
      ...(random.chance(0.1) && { stop: ['e', 'st', 'zzz'] }),
      ...(random.chance(0.2) && { logprobs: 1 }),
      ...(random.chance(0.3) && { max_recursions: random.integer(1, 3) }),
    }
    yield {
      body: fate === 'known' ? random_of(random, known) : fate === 'wrong' ? spoil(random, body) : body,
      choices,
      pauseMs: random.chance(0.5) ? random.integer(0, 20) : 0,
      fate,
      leaveMs: random.integer(0, 40),
    }
  }
}

function pickFate(random: Random): PlannedRequest['fate'] {
  const value = random.next()
  if (value < 0.55) return 'read'
  if (value < 0.6) return 'slowly'
  if (value < 0.85) return 'leave'
  return value < 0.9 ? 'wrong' : 'known'
}

function random_of<T>(random: Random, values: readonly T[]): T {
  return values[random.integer(0, values.length - 1)]!
}

function spoil(random: Random, body: Record<string, unknown>): Record<string, unknown> {
  const wrong = [
    { max_tokens: -1 },
    { max_tokens: 100_000 },
    { temperature: 'x' },
    { model: 'other' },
    { prompt: [300] },
  ]
  return { ...body, ...random_of(random, wrong) }
}

function randomText(random: Random, length: number): string {
  return Array.from({ length }, () => String.fromCharCode(random.integer(97, 122))).join('')
}
