// The objects of responses to POST /v1/completions, in the form of OpenAI's API.
import { randomUUID } from 'node:crypto'
import type { TextPiece, TextToken } from '../generated_text.js'
import type { FinishReason } from '../generation.js'
import { topLogprobs } from './top_logprobs.js'
import type { Usage } from './usage.js'

export interface Logprobs {
  tokens: string[]
  /** Null for the first token of an echoed prompt. */
  token_logprobs: (number | null)[]
  /** For each token the most likely tokens in its place and the token itself. Null if 0 were asked for. */
  top_logprobs: (Record<string, number> | null)[] | null
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
  /** In a stream with usage: null in all chunks but the last. Absent in a stream without usage. */
  usage?: Usage | null
}

/** What all chunks of one response have in common. */
export function completionHead(model: string): Omit<Completion, 'choices' | 'usage'> {
  const id = `cmpl-${randomUUID().replaceAll('-', '')}`
  return { id, object: 'text_completion', created: Math.floor(Date.now() / 1000), model }
}

/** @param logprobs of the request; null: none are sent */
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
    top_logprobs: count === 0 ? null : tokens.map(topByName),
    text_offset: tokens.map(({ offset }) => offset),
  }
}

function topByName({ topLogprobs: top, logprob, ...token }: TextToken): Record<string, number> | null {
  return top === null || logprob === null ? null : topLogprobs(top, { ...token, logprob })
}
