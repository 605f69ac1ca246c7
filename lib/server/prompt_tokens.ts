// Encodes the prompts of a request within the limits, without blocking the event loop.
import { startOf } from '../tokenizer/start.js'
import { apiErrorOf, invalidField, refusalOf } from './api_error.js'
import type { Prompt } from './completion_request.js'
import type { ResolvedServerOptions } from './options.js'

export type PromptLimits = Pick<ResolvedServerOptions, 'tokenizer' | 'maxPromptTokens' | 'maxPromptCharacters'>

/** How a text is encoded, and the field of the request that it comes from. */
export interface TextEncoding {
  addSpecialTokens: boolean
  field: string
}

const ofPrompt: TextEncoding = { addSpecialTokens: true, field: 'prompt' }

/**
 * @param signal ends the encoding; it aborts when the client has disconnected or the server closes
 * @throws {ApiError} 400 for a prompt over a limit, and for an empty one if the tokenizer has no token to start from; the
 * reason of the signal where it aborts
 */
export async function encodePrompts(
  prompts: readonly Prompt[],
  limits: PromptLimits,
  signal: AbortSignal,
  encoding = ofPrompt,
): Promise<ArrayLike<number>[]> {
  const texts = prompts.filter((prompt) => typeof prompt === 'string')
  const encoded = (await encodeTexts(texts, limits, signal, encoding)).values()
  return prompts.map((prompt) => {
    const tokens = typeof prompt === 'string' ? startingTokens(encoded.next().value!, limits, encoding) : prompt
    checkLength(tokens.length, limits.maxPromptTokens, 'tokens', encoding)
    return tokens
  })
}

/** As `encodePrompts`, without a limit for tokens; an empty text has none. */
export async function encodeTexts(
  texts: readonly string[],
  { tokenizer, maxPromptCharacters }: PromptLimits,
  signal: AbortSignal,
  encoding = ofPrompt,
): Promise<Int32Array[]> {
  for (const text of texts) checkLength(text.length, maxPromptCharacters, 'characters', encoding)
  try {
    return await tokenizer.encodeBatch(texts, { addSpecialTokens: encoding.addSpecialTokens, signal })
  } catch (error) {
    throw signal.aborted ? apiErrorOf(signal.reason) : refusalOf(error, encoding.field)
  }
}

function startingTokens(tokens: Int32Array, { tokenizer }: PromptLimits, { field }: TextEncoding): ArrayLike<number> {
  const start = startOf(tokens, tokenizer)
  if (start !== null) return start
  throw invalidField(field, 'the prompt is empty, and the tokenizer has no begin or end token to start from')
}

/** @throws {ApiError} 400 */
export function checkLength(length: number, limit: number, unit: string, { field }: Pick<TextEncoding, 'field'>): void {
  if (length <= limit) return
  throw invalidField(
    field,
    `the prompt has ${length} ${unit}; this server takes at most ${limit}`,
    'context_length_exceeded',
  )
}
