// Makes the prompt of a conversation, as text.
import type { ChatTemplate, RenderOptions } from '../chat/chat_template.js'
import type { TemplateMessage } from '../chat/messages.js'
import { toMorError } from '../errors.js'
import { ApiError, invalidField } from './api_error.js'
import type { TextEncoding } from './prompt_tokens.js'

/** The template writes the begin token itself. */
export const chatEncoding: TextEncoding = { addSpecialTokens: false, field: 'messages' }

/** @throws {ApiError} 400 for a model without a template, and for messages that the template refuses */
export function chatPrompt(
  template: ChatTemplate | null,
  messages: readonly TemplateMessage[],
  options: RenderOptions,
): string {
  if (template === null) {
    throw new ApiError(
      400,
      'this model has no chat template, so it takes no messages; send its prompt to /v1/completions, or start the server ' +
        'with a chat template',
      'no_chat_template',
    )
  }
  try {
    return template.render(messages, options)
  } catch (error) {
    throw invalidField('messages', toMorError(error).message, 'invalid_value')
  }
}
