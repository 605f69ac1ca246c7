// Reads the body of POST /v1/completions: checks every field and fills in defaults.
import type { JsonObject } from '../check.js'
import type { ResolvedConfig } from '../config.js'
import { readMaxRecursions } from '../sampling.js'
import { suggestion } from '../suggest.js'
import { ApiError, invalidField } from './api_error.js'
import { describe, FieldReader } from './field_reader.js'

/** A text, or the ids of its tokens. */
export type Prompt = string | readonly number[]

export interface CompletionRequest {
  model: string
  /** At least one. */
  prompts: Prompt[]
  /** Completions of each prompt. */
  n: number
  maxTokens: number
  temperature: number
  topP: number
  topK: number
  /** Seed of the first choice; choice i has seed + i. Null: each choice has a random seed. */
  seed: number | null
  /** Up to four strings, none of them empty. */
  stop: string[]
  stream: boolean
  includeUsage: boolean
  /** How many of the most likely tokens the answer lists at each position. Null: no log-probabilities. */
  logprobs: number | null
  routerThreshold: number | null
  maxRecursions: number | null
  priority: number | null
}

/** Fields of OpenAI's API that are not supported, each with a test for the values that change nothing and are accepted. */
const inert: Record<string, (value: unknown, n: number) => boolean> = {
  best_of: (value, n) => value === n,
  echo: (value) => value === false,
  frequency_penalty: (value) => value === 0,
  logit_bias: (value) => typeof value === 'object' && Object.keys(value as object).length === 0,
  presence_penalty: (value) => value === 0,
  suffix: (value) => value === '',
  user: (value) => typeof value === 'string',
}

const fields = new Set([
  'model',
  'prompt',
  'n',
  'max_tokens',
  'temperature',
  'top_p',
  'top_k',
  'seed',
  'stop',
  'stream',
  'stream_options',
  'logprobs',
  'router_threshold',
  'max_recursions',
  'priority',
  ...Object.keys(inert),
])

/** With it, seeds stay exact integers when the index of the choice is added. */
const maxSeed = 2 ** 52

/** @throws {ApiError} 400 naming the first field at fault, with its value and what is allowed */
export function readCompletionRequest(
  body: unknown,
  model: Pick<ResolvedConfig, 'num_recursions' | 'sharing'>,
): CompletionRequest {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new ApiError(400, `the body is ${describe(body)}; it must be a JSON object`, 'invalid_type')
  }
  for (const key of Object.keys(body)) {
    if (!fields.has(key)) throw invalidField(key, `unknown field "${key}"${suggestion(key, fields)}`, 'unknown_field')
  }
  const reader = new FieldReader(body as JsonObject)
  const n = reader.integer('n', { min: 1, max: 128, fallback: 1 })
  const stream = reader.boolean('stream')
  for (const [key, asksNothing] of Object.entries(inert)) {
    const value = reader.value(key)
    if (value !== null && !asksNothing(value, n)) {
      throw invalidField(key, `${key} is ${describe(value)}; this server does not support it`, 'unsupported_field')
    }
  }
  return {
    model: reader.text('model'),
    prompts: readPrompts(reader.value('prompt')),
    n,
    maxTokens: reader.integer('max_tokens', { min: 1, fallback: 16 }),
    temperature: reader.number('temperature', { min: 0, max: 2, fallback: 1 }),
    topP: reader.number('top_p', { above: 0, max: 1, fallback: 1 }),
    topK: reader.integer('top_k', { min: 0, fallback: 0 }),
    seed: reader.optional('seed', () => reader.integer('seed', { min: 0, max: maxSeed })),
    stop: readStop(reader.value('stop')),
    stream,
    includeUsage: readIncludeUsage(reader, stream),
    logprobs: reader.optional('logprobs', () => reader.integer('logprobs', { min: 0, max: 5 })),
    routerThreshold: reader.optional('router_threshold', () => reader.number('router_threshold', { min: 0, max: 1 })),
    maxRecursions: reader.optional('max_recursions', () =>
      reader.read('max_recursions', (check) => readMaxRecursions(check, 'max_recursions', model)),
    ),
    priority: reader.optional('priority', () => reader.integer('priority', { min: -(2 ** 31), max: 2 ** 31 - 1 })),
  }
}

function readPrompts(value: unknown): Prompt[] {
  if (typeof value === 'string') return [value]
  if (isTokens(value)) return [value]
  if (Array.isArray(value) && value.length > 0) {
    if (value.every((item) => typeof item === 'string') || value.every(isTokens)) return value
  }
  throw invalidField(
    'prompt',
    `prompt is ${describe(value)}; it must be a text, an array of token ids, or an array of either`,
    'invalid_type',
  )
}

function isTokens(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'number')
}

function readStop(value: unknown): string[] {
  const strings = typeof value === 'string' ? [value] : (value ?? [])
  if (Array.isArray(strings) && strings.length <= 4) {
    if (strings.every((item) => typeof item === 'string' && item !== '')) return strings
  }
  throw invalidField(
    'stop',
    `stop is ${describe(value)}; it must be a text or up to four, none of them empty`,
    'invalid_value',
  )
}

function readIncludeUsage(reader: FieldReader, stream: boolean): boolean {
  const options = reader.value('stream_options')
  if (options === null) return false
  if (!stream) throw invalidField('stream_options', 'stream_options is only allowed where stream is true')
  const { include_usage = false, ...others } = typeof options === 'object' ? (options as JsonObject) : { options }
  if (typeof include_usage === 'boolean' && Object.keys(others).length === 0) return include_usage
  throw invalidField(
    'stream_options',
    `stream_options is ${describe(options)}; it may hold include_usage, true or false, and nothing else`,
    'invalid_value',
  )
}
