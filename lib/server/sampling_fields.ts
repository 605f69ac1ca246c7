// Reads the fields that choose tokens and end a text, which completions and chat have in common.
import type { ResolvedConfig } from '../config.js'
import {
  type GenerateOptions,
  isWholeVocabulary,
  readLogitBias,
  readMaxRecursions,
  readRouterThreshold,
  readTokenIds,
} from '../sampling.js'
import { invalidField } from './api_error.js'
import { describe, type FieldReader } from './field_reader.js'

/** The part of a model's config that fields are checked with. */
export type FieldLimits = Pick<
  ResolvedConfig,
  'num_recursions' | 'sharing' | 'router' | 'vocab_size' | 'max_position_embeddings'
> &
  Partial<Pick<ResolvedConfig, 'eos_token_id'>>

export type SamplingOptions = Omit<
  GenerateOptions,
  'maxTokens' | 'seed' | 'stop' | 'signal' | 'topLogprobs' | 'promptLogprobs'
>

export interface SamplingFields {
  /** Options of the engine: those that the body gives, and defaults. */
  sampling: SamplingOptions
  /** Seed of the first choice; choice i has seed + i. Null: each choice has a random seed. */
  seed: number | null
  /** Up to `MOST_STOPS` strings, none of them empty. */
  stop: string[]
}

const defaults = { temperature: 1, topP: 1, topK: 0 }

/** Every field is the engine's option of that name in camel case. */
const readers: Record<string, (reader: FieldReader, key: string, limits: FieldLimits) => unknown> = {
  temperature: (reader, key) => reader.float32(key, { min: 0, max: 2 }),
  top_p: (reader, key) => reader.float32(key, { above: 0, max: 1 }),
  top_k: (reader, key) => reader.integer(key, { min: 0 }),
  min_p: (reader, key) => reader.number(key, { min: 0, max: 1 }),
  presence_penalty: (reader, key) => reader.number(key, { min: -2, max: 2 }),
  frequency_penalty: (reader, key) => reader.number(key, { min: -2, max: 2 }),
  repetition_penalty: (reader, key) => reader.number(key, { min: 0.01, max: 100 }),
  logit_bias: (reader, key, { vocab_size }) => reader.read(key, (check) => readLogitBias(check, key, vocab_size)),
  ignore_eos: (reader, key) => reader.boolean(key),
  stop_token_ids: (reader, key, { vocab_size }) => reader.read(key, (check) => readTokenIds(check, key, vocab_size)),
  router_threshold: (reader, key, limits) => reader.read(key, (check) => readRouterThreshold(check, key, limits)),
  max_recursions: (reader, key, limits) => reader.read(key, (check) => readMaxRecursions(check, key, limits)),
  priority: (reader, key) => reader.integer(key, { min: -(2 ** 31), max: 2 ** 31 - 1 }),
}

export const samplingFields = [...Object.keys(readers), 'min_tokens', 'seed', 'stop']

/** Of `stop`. OpenAI allows four; tasks of evaluation harnesses name more. */
const MOST_STOPS = 32

/** Of a text that is longer than any that can be generated. */
const CHARACTERS_PER_TOKEN = 16

/** With it, seeds stay exact integers when the index of the choice is added. */
const maxSeed = 2 ** 52

/** @throws {ApiError} 400 naming the first field at fault, with its value and what is allowed */
export function readSampling(reader: FieldReader, maxTokens: number, limits: FieldLimits): SamplingFields {
  const sampling: SamplingOptions & Record<string, unknown> = { ...defaults }
  for (const [key, read] of Object.entries(readers)) {
    if (reader.has(key)) sampling[camelCase(key)] = read(reader, key, limits)
  }
  if (reader.has('min_tokens')) sampling.minTokens = reader.integer('min_tokens', { min: 0, max: maxTokens })
  checkSomeTokenIsFree(sampling, limits)
  return {
    sampling,
    seed: reader.optional('seed', () => reader.integer('seed', { min: 0, max: maxSeed })),
    stop: readStop(reader.value('stop'), limits.max_position_embeddings),
  }
}

/** With `min_tokens` some token must not end the completion. */
function checkSomeTokenIsFree(
  { minTokens = 0, stopTokenIds, ignoreEos = false }: SamplingOptions,
  { eos_token_id: end, vocab_size }: FieldLimits,
): void {
  if (minTokens === 0 || stopTokenIds === undefined) return
  const ends = ignoreEos ? [] : [end ?? []].flat()
  if (!isWholeVocabulary([...Array.from(stopTokenIds), ...ends], vocab_size)) return
  throw invalidField(
    'stop_token_ids',
    `min_tokens is ${minTokens}, but every one of the ${vocab_size} tokens ends the completion; leave some out of stop_token_ids`,
    'invalid_value',
  )
}

/** @param context tokens that the model's context holds */
function readStop(value: unknown, context: number): string[] {
  const strings = typeof value === 'string' ? [value] : (value ?? [])
  if (Array.isArray(strings) && strings.length <= MOST_STOPS) {
    if (strings.every((item) => typeof item === 'string' && item !== '')) {
      const long = strings.find(({ length }) => length > CHARACTERS_PER_TOKEN * context)
      if (long === undefined) return strings
      throw invalidField(
        'stop',
        `a text in stop has ${long.length} characters, more than the ${context} tokens of the context can hold`,
        'invalid_value',
      )
    }
  }
  throw invalidField(
    'stop',
    `stop is ${describe(value)}; it must be a text or up to ${MOST_STOPS}, none of them empty`,
    'invalid_value',
  )
}

function camelCase(key: string): string {
  return key.replace(/_[a-z]/g, (match) => match[1]!.toUpperCase())
}
