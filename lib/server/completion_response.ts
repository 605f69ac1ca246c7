// The objects that POST /v1/completions answers with, in the shape of OpenAI's API.
// Must not know: how text comes to be, sockets.
import { randomBytes } from 'node:crypto'
import type { FinishReason } from '../generation.js'
import type { TextPiece, TextToken } from './choice_text.js'

export interface Usage {
  /** Each prompt counted once, whatever n is. */
  prompt_tokens: number
  /** Every token that was generated, those of stop strings included. */
  completion_tokens: number
  total_tokens: number
}

export interface Logprobs {
  tokens: string[]
  token_logprobs: number[]
  /** For each token the most likely ones in its place, and itself. Null where 0 were asked for. */
  top_logprobs: Record<string, number>[] | null
  text_offset: number[]
}

export interface Choice {
  index: number
  text: string
  logprobs: Logprobs | null
  /** Null while the stream goes on. */
  finish_reason: FinishReason | null
}

export interface Completion {
  id: string
  object: 'text_completion'
  /** Unix time in seconds. */
  created: number
  model: string
  choices: Choice[]
  /** In a stream with usage: null but in the last chunk. Absent in one without. */
  usage?: Usage | null
}

/** What all chunks of one answer have in common. */
export function completionHead(model: string): Omit<Completion, 'choices' | 'usage'> {
  const id = `cmpl-${randomBytes(16).toString('hex')}`
  return { id, object: 'text_completion', created: Math.floor(Date.now() / 1000), model }
}

export function usageOf(promptTokens: number, completionTokens: number): Usage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  }
}

/** @param logprobs as asked for: null for none */
export function choiceOf(
  index: number,
  { text, tokens }: TextPiece,
  logprobs: number | null,
  finishReason: FinishReason | null,
): Choice {
  return { index, text, logprobs: logprobs === null ? null : logprobsOf(tokens, logprobs), finish_reason: finishReason }
}

function logprobsOf(tokens: TextToken[], count: number): Logprobs {
  return {
    tokens: tokens.map(({ text }) => text),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: count === 0 ? null : tokens.map(({ topLogprobs }) => topLogprobs!),
    text_offset: tokens.map(({ offset }) => offset),
  }
}
