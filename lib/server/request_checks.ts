// Checks of a request against the model that the server has.
import { show } from '../check.js'
import { ApiError, invalidField } from './api_error.js'
import type { SamplingOptions } from './sampling_fields.js'

/** The engine reads and keeps the lists of every completion by itself: a million biases take some 0.3 s of the event loop. */
const MOST_ENTRIES = 2 ** 20

/** @throws {ApiError} 404 */
export function checkModel(asked: string, served: string): void {
  if (asked === served) return
  throw new ApiError(
    404,
    `the model ${show(asked)} is not here; this server has ${JSON.stringify(served)}`,
    'model_not_found',
    'model',
  )
}

/**
 * @param field the request's field of `maxTokens`
 * @throws {ApiError} 400
 */
export function checkContext(
  prompts: readonly ArrayLike<number>[],
  maxTokens: number,
  field: string,
  context: number,
): void {
  for (const { length } of prompts) {
    if (length + maxTokens <= context) continue
    throw invalidField(
      length < context ? field : 'prompt',
      `the prompt has ${length} tokens and ${field} is ${maxTokens}, ${length + maxTokens} together; ` +
        `the context of the model holds ${context}`,
      'context_length_exceeded',
    )
  }
}

/**
 * @param completions of the request, each of which gets the biases and the stop tokens
 * @throws {ApiError} 400
 */
export function checkLists({ logitBias = {}, stopTokenIds = [] }: SamplingOptions, completions: number): void {
  const lengths = { logit_bias: Object.keys(logitBias).length, stop_token_ids: stopTokenIds.length }
  for (const [field, length] of Object.entries(lengths)) {
    if (length * completions <= MOST_ENTRIES) continue
    throw invalidField(
      field,
      `${field} has ${length} entries for each of ${completions} completions, ${length * completions} together; ` +
        `this server takes at most ${MOST_ENTRIES}`,
      'invalid_value',
    )
  }
}
