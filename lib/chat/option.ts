// The option `chatTemplate`.
import { type Checker, show } from '../check.js'
import type { ChatTemplate } from './chat_template.js'

/** Null where it is left out. @throws {MorError} INVALID_ARGUMENT for what is no template, such as a promise of one */
export function readChatTemplate(check: Checker): ChatTemplate | null {
  if (!check.has('chatTemplate')) return null
  const template = check.object.chatTemplate as ChatTemplate
  if (typeof template.render === 'function') return template
  return check.fail(`chatTemplate is ${show(template)}; give what ChatTemplate.load resolves to`)
}
