// The prompt as the beginning of a completion's text: its text, and its tokens with their log-probabilities.

import type { TextPiece, TextToken } from '../generated_text.js'
import type { PromptToken } from '../generation.js'
import type { Tokenizer } from '../tokenizer.js'
import type { Prompt } from './completion_request.js'

/**
 * @param given the prompt as the request has it; a text comes back as it was
 * @param reported the tokens of the prompt; none if no log-probabilities are sent
 */
export function echoOf(
  tokenizer: Tokenizer,
  given: Prompt,
  prompt: ArrayLike<number>,
  reported: readonly PromptToken[],
): TextPiece {
  const text = typeof given === 'string' ? given : tokenizer.decode(prompt)
  const detokenizer = tokenizer.detokenizer()
  let offset = 0
  const tokens = reported.map((token, i): TextToken => {
    const topLogprobs = token?.topLogprobs?.map((other) => ({ ...other, text: detokenizer.peek(other.token) })) ?? null
    const added = detokenizer.push(prompt[i]!)
    const start = offset
    offset += added.length
    return { token: prompt[i]!, text: added, offset: start, logprob: token?.logprob ?? null, topLogprobs }
  })
  return { text, tokens }
}
