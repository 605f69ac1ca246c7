// The messages of a conversation: what is accepted, and what a template is given.
import { type JsonObject, show } from '../check.js'
import { MorError } from '../errors.js'

export const chatRoles = ['system', 'developer', 'user', 'assistant'] as const
export type ChatRole = (typeof chatRoles)[number]

export interface ChatTextPart {
  type: 'text'
  text: string
}

export interface ChatMessage {
  role: ChatRole
  /** Parts are joined, each on a line of its own. */
  content: string | readonly ChatTextPart[]
  name?: string
}

/** A message as templates expect it. */
export interface TemplateMessage {
  role: ChatRole
  content: string
  name?: string
}

/** An error of one message; `path` is that of the value at fault, such as `messages[2].content`. */
export class MessageError extends MorError {
  constructor(
    readonly path: string,
    message: string,
    readonly unsupported = false,
  ) {
    super('INVALID_ARGUMENT', `${path} ${message}`)
  }
}

/** @throws {MessageError} for anything but a list of one or more messages */
export function readMessages(value: unknown): TemplateMessage[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw new MessageError('messages', `is ${brief(value)}; it must be a list of at least one message`)
  }
  return value.map((message, i) => readMessage(message, `messages[${i}]`))
}

function readMessage(value: unknown, path: string): TemplateMessage {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new MessageError(path, `is ${brief(value)}; it must be an object with role and content`)
  }
  const { role, content, name, ...others } = value as JsonObject
  if (role === 'tool' || role === 'function') {
    throw new MessageError(`${path}.role`, `is ${show(role)}; tools are not supported`, true)
  }
  if (!(chatRoles as readonly unknown[]).includes(role)) {
    throw new MessageError(`${path}.role`, `is ${brief(role)}; it must be ${chatRoles.map(show).join(' or ')}`)
  }
  for (const key of ['tool_calls', 'function_call', 'audio']) {
    if ((others[key] ?? null) === null || (Array.isArray(others[key]) && others[key].length === 0)) continue
    throw new MessageError(`${path}.${key}`, 'is not supported; this model answers with text alone', true)
  }
  const named = name ?? null
  if (named !== null && typeof named !== 'string') {
    throw new MessageError(`${path}.name`, `is ${brief(name)}; it must be a text`)
  }
  const text = readContent(content, `${path}.content`)
  return { role: role as ChatRole, content: text, ...(named !== null && { name: named }) }
}

function readContent(value: unknown, path: string): string {
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) {
    throw new MessageError(path, `is ${brief(value)}; it must be a text or a list of parts of type "text"`)
  }
  return value.map((part, i) => readPart(part, `${path}[${i}]`)).join('\n')
}

function readPart(value: unknown, path: string): string {
  const { type, text, refusal } = (typeof value === 'object' && value !== null ? value : {}) as JsonObject
  if (type === 'refusal' && typeof refusal === 'string') return refusal
  if (type !== undefined && type !== 'text' && type !== 'refusal') {
    throw new MessageError(`${path}.type`, `is ${brief(type)}; parts of type "text" are supported, and no others`, true)
  }
  if (type === 'text' && typeof text === 'string') return text
  throw new MessageError(path, `is ${brief(value)}; it must be { "type": "text", "text": "…" }`)
}

/** Values may be nested as deeply as a body can be, so only simple ones are printed. */
function brief(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : `a list of ${value.length}`
  return typeof value === 'object' && value !== null ? 'an object' : show(value)
}
