// Reads whether and how an answer is streamed.
import type { JsonObject } from '../check.js'
import { invalidField } from './api_error.js'
import { describe, type FieldReader } from './field_reader.js'

export interface StreamFields {
  stream: boolean
  /** Whether the stream ends with the usage. */
  includeUsage: boolean
}

export const streamFields = ['stream', 'stream_options']

/**
 * `include_obfuscation` is accepted and has no effect: it asks for padding against observers of the lengths of chunks, which
 * is of use only where the connection is encrypted.
 */
const optionNames = ['include_usage', 'include_obfuscation']

/** @throws {ApiError} 400 */
export function readStream(reader: FieldReader): StreamFields {
  const stream = reader.boolean('stream')
  const options = reader.value('stream_options')
  if (options === null) return { stream, includeUsage: false }
  if (!stream) throw invalidField('stream_options', 'stream_options is only allowed where stream is true')
  const given = typeof options === 'object' && !Array.isArray(options) ? (options as JsonObject) : { options }
  const wrong = Object.entries(given).find(
    ([key, value]) => !optionNames.includes(key) || typeof (value ?? false) !== 'boolean',
  )
  if (wrong === undefined) return { stream, includeUsage: given.include_usage === true }
  throw invalidField(
    'stream_options',
    `stream_options is ${describe(options)}; it may hold ${optionNames.join(' and ')}, true or false, and nothing else`,
    'invalid_value',
  )
}
