// The clients of the HTTP bench: streams of chat over loopback, and when their first token came. They share the machine with
// the server, so they read no more of an answer than they must: a socket each, without a parser of HTTP.
import { connect, type Socket } from 'node:net'
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
  const first = new Map<number, number>()
  let next = 0
  const client = async () => {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port), noDelay: true })
    try {
      for (let seed = next++; seed < requests; seed = next++) first.set(seed, await streamChat(socket, seed, maxTokens))
    } finally {
      socket.destroy()
    }
  }
  await Promise.all(Array.from({ length: concurrency }, client))
  return first
}

/** The last chunk of a response whose stream ended as it should, and the end of the chunks. */
const streamEnd = /data: \[DONE\]\n\n\r\n0\r\n\r\n$/

function streamChat(socket: Socket, seed: number, maxTokens: number): Promise<number> {
  const messages = [{ role: 'user', content: `Question ${seed}: what is the sum of ${seed} and ${seed * 7}?` }]
  const length = Math.ceil(maxTokens / 2) + ((seed * 13) % maxTokens) // unequal, so that requests do not come all at once
  const body = JSON.stringify({ model: modelName, messages, stream: true, max_tokens: length, seed, ignore_eos: true })
  const head = [
    'POST /v1/chat/completions HTTP/1.1',
    'host: 127.0.0.1',
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
  ]
  const began = performance.now()
  let first: number | null = null
  let unread = ''
  return new Promise((resolve, reject) => {
    const end = (): void => {
      socket.off('data', read).off('close', failed).off('error', failed)
    }
    const failed = (): void => {
      end()
      reject(new Error(`a stream ended with ${unread.slice(-200)}`))
    }
    const read = (data: Buffer): void => {
      // The end of a stream is shorter than this; its first text is looked for in all that came before.
      unread = first === null ? unread + data.toString('latin1') : (unread + data.toString('latin1')).slice(-300)
      if (first === null && firstText.test(unread)) first = performance.now() - began
      if (!unread.endsWith('0\r\n\r\n')) return
      if (first !== null && streamEnd.test(unread) && unread.includes('"finish_reason":"length"')) {
        end()
        resolve(first)
      } else {
        failed()
      }
    }
    socket.on('data', read).on('close', failed).on('error', failed)
    socket.write(`${head.join('\r\n')}\r\n\r\n${body}`)
  })
}
