// The clients of the HTTP bench: streams of chat over loopback, and when their first token came.
import { Agent, type IncomingMessage, request } from 'node:http'
import { firstText, modelName } from './shape.js'

export interface StreamOptions {
  url: string
  requests: number
  /** Streams that are open at a time. */
  concurrency: number
  /** Tokens of an answer, on average. */
  maxTokens: number
}

/**
 * Milliseconds from the request to the first text of its stream, by the seed of the request.
 * @throws {Error} for a stream that does not end as it should
 */
export async function streamChats({
  url,
  requests,
  concurrency,
  maxTokens,
}: StreamOptions): Promise<Map<number, number>> {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency })
  const first = new Map<number, number>()
  let next = 0
  const client = async () => {
    for (let seed = next++; seed < requests; seed = next++)
      first.set(seed, await streamChat(url, agent, seed, maxTokens))
  }
  await Promise.all(Array.from({ length: concurrency }, client))
  agent.destroy()
  return first
}

async function streamChat(url: string, agent: Agent, seed: number, maxTokens: number): Promise<number> {
  const messages = [{ role: 'user', content: `Question ${seed}: what is the sum of ${seed} and ${seed * 7}?` }]
  const length = Math.ceil(maxTokens / 2) + ((seed * 13) % maxTokens) // unequal, so that requests do not come all at once
  const body = { model: modelName, messages, stream: true, max_tokens: length, seed, ignore_eos: true }
  const began = performance.now()
  const response = await post(`${url}/v1/chat/completions`, agent, JSON.stringify(body))
  let text = ''
  let first: number | null = null
  for await (const data of response.setEncoding('utf8')) {
    text += data
    if (first === null && firstText.test(text)) first = performance.now() - began
  }
  if (first !== null && text.endsWith('data: [DONE]\n\n') && text.includes('"finish_reason":"length"')) return first
  throw new Error(`a stream ended with ${response.statusCode} and ${text.slice(-200)}`)
}

function post(url: string, agent: Agent, body: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' }
    request(url, { method: 'POST', agent, headers }, resolve).on('error', reject).end(body)
  })
}
