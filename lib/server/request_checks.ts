// Checks of a request against the model that the server has.
import { ApiError, invalidField } from './api_error.js'

/** @throws {ApiError} 404 */
export function checkModel(asked: string, served: string): void {
  if (asked === served) return
  throw new ApiError(
    404,
    `the model ${JSON.stringify(asked)} is not here; this server has ${JSON.stringify(served)}`,
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
