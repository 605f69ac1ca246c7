// Makes the prompt of a conversation, as text.
import { toMorError } from '../errors.js'
import { ApiError, invalidField } from './api_error.js'
import type { Conversation } from './chat_request.js'
import type { ResolvedServerOptions } from './options.js'
import { checkLength, type TextEncoding } from './prompt_tokens.js'

/** The template writes the begin token itself. */
export const chatEncoding: TextEncoding = { addSpecialTokens: false, field: 'messages' }

/**
 * @throws {ApiError} 400 for a model without a template, for more messages than a prompt may have tokens, of which each takes
 * one at least, and for messages that the template refuses
 */
export function chatPrompt(
  { chatTemplate, maxPromptTokens }: Pick<ResolvedServerOptions, 'chatTemplate' | 'maxPromptTokens'>,
  { messages, addGenerationPrompt, variables }: Conversation,
): string {
  if (chatTemplate === null) {
    throw new ApiError(
      400,
      'this model has no chat template, so it takes no messages; send its prompt to /v1/completions, or start the server ' +
        'with a chat template',
      'no_chat_template',
    )
  }
  checkLength(messages.length, maxPromptTokens, 'messages', chatEncoding) // the template takes a while for each
  try {
    return chatTemplate.render(messages, { addGenerationPrompt, variables })
  } catch (error) {
    throw invalidField('messages', toMorError(error).message, 'invalid_value')
  }
}
