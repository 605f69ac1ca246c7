// The objects of responses to POST /v1/chat/completions, in the form of OpenAI's API.
import { randomUUID } from 'node:crypto'
import type { TextToken } from '../generated_text.js'
import type { FinishReason } from '../generation.js'
import { nameTokens } from './top_logprobs.js'
import type { Usage } from './usage.js'

export interface ChatTokenLogprob {
  /** The text that the token added. Of others: what they would have added, or `token_id:<id>`. */
  token: string
  logprob: number
  /** The UTF-8 bytes of the text; null if the token is named by its id. */
  bytes: number[] | null
}

export interface ChatLogprobs {
  content: (ChatTokenLogprob & { top_logprobs: ChatTokenLogprob[] })[]
  refusal: null
}

export interface ChatChoice {
  index: number
  message: { role: 'assistant'; content: string; refusal: null }
  logprobs: ChatLogprobs | null
  finish_reason: FinishReason
}

export interface ChatChunkChoice {
  index: number
  delta: { role?: 'assistant'; content?: string }
  logprobs: ChatLogprobs | null
  /** Null while the stream goes on. */
  finish_reason: FinishReason | null
}

interface ChatHead {
  id: string
  /** Unix time in seconds. */
  created: number
  model: string
}

export interface ChatCompletion extends ChatHead {
  object: 'chat.completion'
  choices: ChatChoice[]
  usage: Usage
}

export interface ChatChunk extends ChatHead {
  object: 'chat.completion.chunk'
  choices: ChatChunkChoice[]
  /** In a stream with usage: null in all chunks but the last. Absent in a stream without usage. */
  usage?: Usage | null
}

/** What all chunks of one response have in common. */
export function chatHead(model: string): ChatHead {
  return { id: `chatcmpl-${randomUUID().replaceAll('-', '')}`, created: Math.floor(Date.now() / 1000), model }
}

/** @param wanted whether log-probabilities are sent */
export function chatLogprobs(tokens: readonly TextToken[], wanted: boolean): ChatLogprobs | null {
  return wanted ? { content: tokens.map(tokenLogprob), refusal: null } : null
}

function tokenLogprob(chosen: TextToken): ChatLogprobs['content'][number] {
  const others = nameTokens(chosen.topLogprobs ?? [], chosen)
  return {
    token: chosen.text,
    logprob: chosen.logprob!,
    bytes: bytesOf(chosen.text),
    top_logprobs: others.map(({ name, text, logprob }) => {
      return { token: name, logprob, bytes: name === text ? bytesOf(text) : null }
    }),
  }
}

function bytesOf(text: string): number[] {
  return Array.from(Buffer.from(text))
}
