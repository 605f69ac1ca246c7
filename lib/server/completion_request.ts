// Reads the body of POST /v1/completions: checks every field and fills in defaults.
import type { JsonObject } from '../check.js'
import { mostTopLogprobs } from '../native/engine.js'
import { ApiError, invalidField } from './api_error.js'
import { describe, FieldReader } from './field_reader.js'
import { type FieldLimits, readSampling, type SamplingFields, samplingFields } from './sampling_fields.js'
import { readStream, type StreamFields, streamFields } from './stream_fields.js'

/** A text, or the ids of its tokens. */
export type Prompt = string | readonly number[]

export interface CompletionRequest extends SamplingFields, StreamFields {
  model: string
  /** At least one. */
  prompts: Prompt[]
  /** Completions of each prompt in the answer. */
  n: number
  /** Completions of each prompt that are generated; the answer has the n most likely ones. */
  bestOf: number
  /** 0 is allowed with `echo`. */
  maxTokens: number
  /** How many of the most likely tokens the answer lists at each position. Null: no log-probabilities. */
  logprobs: number | null
  /** Whether the prompt stands before each completion. */
  echo: boolean
}

/** Most completions of a prompt. */
export const MOST_CHOICES = 128

export const completionFields: ReadonlySet<string> = new Set([
  'model',
  'prompt',
  'n',
  'best_of',
  'max_tokens',
  'logprobs',
  'echo',
  'suffix',
  'user',
  ...samplingFields,
  ...streamFields,
])

/** @throws {ApiError} 400 naming the first field at fault, with its value and what is allowed */
export function readCompletionRequest(body: unknown, limits: FieldLimits): CompletionRequest {
  const reader = new FieldReader(checkBody(body), 'completions')
  const echo = reader.boolean('echo')
  const n = reader.integer('n', { min: 1, max: MOST_CHOICES, fallback: 1 })
  const stream = readStream(reader)
  const maxTokens = reader.integer('max_tokens', { min: echo ? 0 : 1, fallback: 16 })
  const user = reader.value('user')
  if (user !== null && typeof user !== 'string') throw unsupported('user', user)
  if (reader.has('suffix') && reader.value('suffix') !== '') throw unsupported('suffix', reader.value('suffix'))
  return {
    model: reader.text('model'),
    prompts: readPrompts(reader.value('prompt')),
    n,
    bestOf: readBestOf(reader, n, stream.stream),
    maxTokens,
    ...readSampling(reader, maxTokens, limits),
    ...stream,
    logprobs: reader.optional('logprobs', () => reader.integer('logprobs', { min: 0, max: mostTopLogprobs })),
    echo,
  }
}

/** @throws {ApiError} 400 for a body that is no object */
export function checkBody(body: unknown): JsonObject {
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as JsonObject
  throw new ApiError(400, `the body is ${describe(body)}; it must be a JSON object`, 'invalid_type')
}

export function unsupported(key: string, value: unknown): ApiError {
  return invalidField(key, `${key} is ${describe(value)}; this server does not support it`, 'unsupported_field')
}

function readPrompts(value: unknown): Prompt[] {
  if (typeof value === 'string') return [value]
  if (isTokens(value)) return [value]
  if (Array.isArray(value) && value.length > 0) {
    if (value.every((item) => typeof item === 'string') || value.every(isTokens)) return value
  }
  const form = 'prompt must be a text, an array of token ids, or an array of either, and no array may be empty'
  throw invalidField('prompt', `${flawOf(value)}; ${form}`, 'invalid_type')
}

/** What is wrong with a value that is no prompt: itself, or the first entry that does not fit. */
function flawOf(value: unknown): string {
  if (!Array.isArray(value) || value.length === 0) return `prompt is ${describe(value)}`
  const kindOf = (item: unknown) => (Array.isArray(item) ? 'array' : typeof item)
  const kind = kindOf(value[0])
  const fits = (item: unknown) =>
    kind === 'array' ? isTokens(item) : kindOf(item) === kind && (kind === 'string' || kind === 'number')
  const i = value.findIndex((item) => !fits(item))
  const item: unknown = value[i]
  if (kindOf(item) !== kind) return `prompt[${i}] is ${describe(item)}, unlike those before it`
  if (!Array.isArray(item) || item.length === 0) return `prompt[${i}] is ${describe(item)}`
  const j = item.findIndex((id) => typeof id !== 'number')
  return `prompt[${i}][${j}] is ${describe(item[j])}`
}

function isTokens(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'number')
}

function readBestOf(reader: FieldReader, n: number, stream: boolean): number {
  const bestOf = reader.integer('best_of', { min: n, max: MOST_CHOICES, fallback: n })
  if (bestOf === n || !stream) return bestOf
  throw invalidField(
    'best_of',
    `best_of is ${bestOf} and n is ${n}; a stream cannot choose the best of more completions than it sends`,
    'invalid_value',
  )
}
