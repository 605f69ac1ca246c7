// Turns a prompt of the AI SDK into messages of the engine, or into the text to go on from.
import { type LanguageModelV3Prompt, type SharedV3Warning, UnsupportedFunctionalityError } from '@ai-sdk/provider'
import type { ChatMessage, ChatTextPart } from '../chat/messages.js'

type Message = LanguageModelV3Prompt[number]
type Part = Exclude<Message['content'], string>[number]

/** A prompt, and what of it the model does not get. */
export interface ReadPrompt<T> {
  prompt: T
  warnings: SharedV3Warning[]
}

/** @throws {UnsupportedFunctionalityError} for files, such as images, and for calls and results of tools */
export function readConversation(prompt: LanguageModelV3Prompt): ReadPrompt<ChatMessage[]> {
  const warnings: SharedV3Warning[] = []
  const messages = prompt.map(({ role, content }): ChatMessage => {
    if (role === 'tool') throw unsupported('messages of tools')
    if (role === 'system') return { role, content }
    return { role, content: content.flatMap((part) => readPart(part, warnings)) }
  })
  return { prompt: messages, warnings }
}

/**
 * The text of the only message, which a user has.
 * @throws {UnsupportedFunctionalityError} for other messages, and as readConversation
 */
export function readText(prompt: LanguageModelV3Prompt): ReadPrompt<string> {
  const [message, ...others] = prompt
  if (message?.role !== 'user' || others.length > 0) {
    throw unsupported('conversations', 'this language model has the mode "completion": give `prompt`, and no `system`')
  }
  const warnings: SharedV3Warning[] = []
  const parts = message.content.flatMap((part) => readPart(part, warnings))
  return { prompt: parts.map(({ text }) => text).join('\n'), warnings }
}

function readPart(part: Part, warnings: SharedV3Warning[]): ChatTextPart[] {
  if (part.type === 'text') return [{ type: 'text', text: part.text }]
  if (part.type === 'reasoning') {
    warnings.push({ type: 'unsupported', feature: 'reasoning', details: 'It is left out of the messages.' })
    return []
  }
  throw unsupported(part.type === 'file' ? `files of type ${part.mediaType}` : `parts of type ${part.type}`)
}

function unsupported(functionality: string, cure = 'the model reads text alone'): UnsupportedFunctionalityError {
  return new UnsupportedFunctionalityError({ functionality, message: `${functionality} are not supported: ${cure}` })
}
