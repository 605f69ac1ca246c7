// Encodes the prompts of a request within the limits, without blocking the event loop for long.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { invalidField } from './api_error.js'
import type { Prompt } from './completion_request.js'
import type { ResolvedServerOptions } from './options.js'

export type PromptLimits = Pick<ResolvedServerOptions, 'tokenizer' | 'maxPromptTokens' | 'maxPromptCharacters'>

/** @throws {ApiError} 400 for a prompt over a limit, and for an empty one if the tokenizer has no token to start from */
export async function encodePrompts(prompts: readonly Prompt[], limits: PromptLimits): Promise<ArrayLike<number>[]> {
  const encoded: ArrayLike<number>[] = []
  for (const prompt of prompts) {
    if (encoded.length > 0) await nextTurn()
    const tokens = typeof prompt === 'string' ? encodeText(prompt, limits) : prompt
    checkLength(tokens.length, limits.maxPromptTokens, 'tokens')
    encoded.push(tokens)
  }
  return encoded
}

function encodeText(text: string, { tokenizer, maxPromptCharacters }: PromptLimits): ArrayLike<number> {
  checkLength(text.length, maxPromptCharacters, 'characters')
  const tokens = tokenizer.encode(text)
  if (tokens.length > 0) return tokens
  if (tokenizer.eosTokenId !== null) return [tokenizer.eosTokenId]
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
