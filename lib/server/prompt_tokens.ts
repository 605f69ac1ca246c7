// Encodes the prompts of a request within the limits, without blocking the event loop.
import { startOf } from '../tokenizer/start.js'
import { invalidField, refusalOf, shuttingDown } from './api_error.js'
import type { Prompt } from './completion_request.js'
import type { ResolvedServerOptions } from './options.js'

export type PromptLimits = Pick<ResolvedServerOptions, 'tokenizer' | 'maxPromptTokens' | 'maxPromptCharacters'>

/**
 * @param signal ends the encoding; it aborts when the client has disconnected or the server closes
 * @throws {ApiError} 400 for a prompt over a limit, and for an empty one if the tokenizer has no token to start from; 503
 * where the signal aborts
 */
export async function encodePrompts(
  prompts: readonly Prompt[],
  limits: PromptLimits,
  signal: AbortSignal,
): Promise<ArrayLike<number>[]> {
  const texts = prompts.filter((prompt) => typeof prompt === 'string')
  for (const text of texts) checkLength(text.length, limits.maxPromptCharacters, 'characters')
  const encoded = (await encodeTexts(texts, limits, signal)).values()
  return prompts.map((prompt) => {
    const tokens = typeof prompt === 'string' ? startingTokens(encoded.next().value!, limits) : prompt
    checkLength(tokens.length, limits.maxPromptTokens, 'tokens')
    return tokens
  })
}

async function encodeTexts(
  texts: readonly string[],
  { tokenizer }: PromptLimits,
  signal: AbortSignal,
): Promise<Int32Array[]> {
  try {
    return await tokenizer.encodeBatch(texts, { signal })
  } catch (error) {
    throw signal.aborted ? shuttingDown() : refusalOf(error)
  }
}

function startingTokens(tokens: Int32Array, { tokenizer }: PromptLimits): ArrayLike<number> {
  const start = startOf(tokens, tokenizer)
  if (start !== null) return start
  throw invalidField('prompt', 'the prompt is empty, and the tokenizer has no begin or end token to start from')
}

function checkLength(length: number, limit: number, unit: string): void {
  if (length <= limit) return
  throw invalidField(
    'prompt',
    `the prompt has ${length} ${unit}; this server takes at most ${limit}`,
    'context_length_exceeded',
  )
}
