// The requests of a soak: random prompts, lengths and ends.
import { Random } from './random.js'

export interface PlannedRequest {
  route: Route
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

/** With the prefix, the template and 80 generated tokens it fits a context of 256. */
const LONGEST = 80

const SHARED_PREFIX = 'All of these prompts begin with the same words, which a cache may keep; '

/** The part of the path below /v1. */
export type Route = 'completions' | 'chat/completions'

/** A chat template for the model of a soak. */
export const chatTemplate = '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:'

/** Requests whose answers are recorded before the load. */
export function knownRequests(model: string): Pick<PlannedRequest, 'route' | 'body'>[] {
  const random = new Random(99)
  return Array.from({ length: 16 }, (_, seed) => {
    const route: Route = seed < 8 ? 'completions' : 'chat/completions'
    const body = {
      model,
      ...promptOf(route, SHARED_PREFIX.slice(0, 20 * (seed % 8)) + randomText(random, 20)),
      max_tokens: 40,
      seed,
      ...(seed % 2 === 1 && { temperature: 0 }),
      ...(seed % 3 === 1 && { max_recursions: 2 }),
    }
    return { route, body }
  })
}

export function* plan(model: string, requests: number, seed: number): Generator<PlannedRequest> {
  const random = new Random(seed)
  const known = knownRequests(model)
  for (let i = 0; i < requests; i++) {
    const fate = pickFate(random)
    const choices = fate === 'known' || random.chance(0.8) ? 1 : random.integer(2, 4)
    const route: Route = random.chance(0.5) ? 'completions' : 'chat/completions'
    const body = {
      model,
      ...promptOf(route, (random.chance(0.3) ? SHARED_PREFIX : '') + randomText(random, random.integer(1, LONGEST))),
      max_tokens: random.integer(1, 80),
      n: choices,
      stream: random.chance(0.75),
      temperature: random.integer(0, 2),
      router_threshold: random.next(),
      ...(random.chance(0.1) && { stop: ['e', 'st', 'zzz'] }),
      ...(random.chance(0.2) && { logprobs: route === 'completions' ? 1 : true }),
      ...(random.chance(0.3) && { max_recursions: random.integer(1, 3) }),
    }
    const again = random_of(random, known)
    yield {
      ...(fate === 'known' ? again : { route, body: fate === 'wrong' ? spoil(random, route, body) : body }),
      choices,
      pauseMs: random.chance(0.5) ? random.integer(0, 20) : 0,
      fate,
      leaveMs: random.integer(0, 40),
    }
  }
}

function promptOf(route: Route, text: string): Record<string, unknown> {
  return route === 'completions' ? { prompt: text } : { messages: [{ role: 'user', content: text }] }
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

function spoil(random: Random, route: Route, body: Record<string, unknown>): Record<string, unknown> {
  const wrong = [
    { max_tokens: -1 },
    { max_tokens: 100_000 },
    { temperature: 'x' },
    { model: 'other' },
    route === 'completions' ? { prompt: [300] } : { messages: [{ role: 'tool', content: 'x' }] },
  ]
  return { ...body, ...random_of(random, wrong) }
}

function randomText(random: Random, length: number): string {
  return Array.from({ length }, () => String.fromCharCode(random.integer(97, 122))).join('')
}
