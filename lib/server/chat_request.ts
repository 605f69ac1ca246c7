// Reads the body of POST /v1/chat/completions: checks every field and fills in defaults.
import { MessageError, readMessages, type TemplateMessage } from '../chat/messages.js'
import type { JsonObject } from '../check.js'
import { mostTopLogprobs } from '../native/engine.js'
import { invalidField } from './api_error.js'
import { checkBody, MOST_CHOICES, unsupported } from './completion_request.js'
import { describe, FieldReader } from './field_reader.js'
import { type FieldLimits, readSampling, type SamplingFields, samplingFields } from './sampling_fields.js'
import { readStream, type StreamFields, streamFields } from './stream_fields.js'

/** What a prompt is made of. */
export interface Conversation {
  messages: TemplateMessage[]
  /** Whether the prompt ends with the beginning of an answer. */
  addGenerationPrompt: boolean
  /** Further variables of the template. */
  variables: JsonObject
}

export interface ChatRequest extends Conversation, SamplingFields, StreamFields {
  model: string
  /** Answers. */
  n: number
  /** Null: as many as the context holds. */
  maxTokens: number | null
  /** The field that gives it. */
  maxTokensField: string
  /** How many of the most likely tokens the answer lists at each position. Null: no log-probabilities. */
  topLogprobs: number | null
}

/** Fields that are not supported, each with a test for the values that ask for nothing. */
const inert: Record<string, (value: unknown) => boolean> = {
  tools: isEmptyList,
  functions: isEmptyList,
  tool_choice: (value) => value === 'none' || value === 'auto',
  function_call: (value) => value === 'none' || value === 'auto',
  response_format: (value) => (value as { type?: unknown }).type === 'text',
  modalities: (value) => Array.isArray(value) && value.every((item) => item === 'text'),
  audio: () => false,
  user: (value) => typeof value === 'string',
}

const maxTokensFields = ['max_completion_tokens', 'max_tokens']

export const conversationFields = ['messages', 'add_generation_prompt', 'chat_template_kwargs']

export const chatFields: ReadonlySet<string> = new Set([
  'model',
  'n',
  'logprobs',
  'top_logprobs',
  ...conversationFields,
  ...maxTokensFields,
  ...Object.keys(inert),
  ...samplingFields,
  ...streamFields,
])

/** @throws {ApiError} 400 naming the first field at fault, with its value and what is allowed */
export function readChatRequest(body: unknown, limits: FieldLimits): ChatRequest {
  const reader = new FieldReader(checkBody(body), 'chat')
  const stream = readStream(reader)
  for (const [key, asksNothing] of Object.entries(inert)) {
    const value = reader.value(key)
    if (value !== null && !asksNothing(value)) throw unsupported(key, value)
  }
  const [maxTokensField, another] = maxTokensFields.filter((key) => reader.has(key))
  if (another !== undefined) {
    throw invalidField(another, `${another} and ${maxTokensField} mean the same: leave one out`, 'invalid_value')
  }
  const maxTokens = maxTokensField === undefined ? null : reader.integer(maxTokensField, { min: 1 })
  return {
    model: reader.text('model'),
    ...readConversation(reader),
    n: reader.integer('n', { min: 1, max: MOST_CHOICES, fallback: 1 }),
    maxTokens,
    maxTokensField: maxTokensField ?? 'max_completion_tokens',
    ...readSampling(reader, maxTokens ?? limits.max_position_embeddings, limits),
    ...stream,
    topLogprobs: readTopLogprobs(reader),
  }
}

/** @throws {ApiError} 400 */
export function readConversation(reader: FieldReader): Conversation {
  return {
    messages: readField(() => readMessages(reader.value('messages'))),
    addGenerationPrompt: reader.boolean('add_generation_prompt', true),
    variables: readVariables(reader.value('chat_template_kwargs')),
  }
}

/** Errors of a message become errors of the field at its path. */
function readField<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof MessageError)) throw error
    throw invalidField(error.path, error.message, error.unsupported ? 'unsupported_field' : 'invalid_value')
  }
}

function readTopLogprobs(reader: FieldReader): number | null {
  const wanted = reader.boolean('logprobs')
  if (!reader.has('top_logprobs')) return wanted ? 0 : null
  const count = reader.integer('top_logprobs', { min: 0, max: mostTopLogprobs })
  if (wanted) return count
  if (count === 0) return null
  throw invalidField('top_logprobs', 'top_logprobs is only allowed where logprobs is true', 'invalid_value')
}

function readVariables(value: unknown): JsonObject {
  if (typeof value === 'object' && !Array.isArray(value)) return (value ?? {}) as JsonObject
  const text = `chat_template_kwargs is ${describe(value)}; it must be an object`
  throw invalidField('chat_template_kwargs', text, 'invalid_type')
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0
}
