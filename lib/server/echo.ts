// The prompt as the beginning of a completion's text: its text, and its tokens with their log-probabilities.
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { TextPiece, TextToken } from '../generated_text.js'
import type { PromptToken } from '../generation.js'
import type { Tokenizer } from '../tokenizer.js'
import type { Prompt } from './completion_request.js'

/** Tokens whose texts are made in one turn of the event loop, which other requests need too. */
const TOKENS_PER_TURN = 128

/**
 * @param given the prompt as the request has it; a text comes back as it was
 * @param reported the tokens of the prompt; none if no log-probabilities are sent
 */
export async function echoOf(
  tokenizer: Tokenizer,
  given: Prompt,
  prompt: ArrayLike<number>,
  reported: readonly PromptToken[],
): Promise<TextPiece> {
  const text = typeof given === 'string' ? given : tokenizer.decode(prompt)
  const detokenizer = tokenizer.detokenizer()
  let offset = 0
  const tokens: TextToken[] = []
  for (const [i, token] of reported.entries()) {
    if (i % TOKENS_PER_TURN === TOKENS_PER_TURN - 1) await nextTurn()
    const topLogprobs = token?.topLogprobs?.map((other) => ({ ...other, text: detokenizer.peek(other.token) })) ?? null
    const added = detokenizer.push(prompt[i]!)
    tokens.push({ token: prompt[i]!, text: added, offset, logprob: token?.logprob ?? null, topLogprobs })
    offset += added.length
  }
  return { text, tokens }
}
