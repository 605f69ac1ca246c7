// Answers a request with a stream of server-sent events, whose last one reports an error where there is one.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { apiErrorOf } from './api_error.js'
import { EventStream } from './event_stream.js'
import type { ServerParts } from './parts.js'

/** Sends one event with `data` as JSON; waits while the client does not read. */
export type SendEvent = (data: object) => Promise<void>

/** @param write sends the events; what it throws becomes the last one */
export async function streamAnswer(
  request: FastifyRequest,
  reply: FastifyReply,
  { options, outbox }: ServerParts,
  write: (send: SendEvent) => Promise<void>,
): Promise<void> {
  const headers = reply.getHeaders() as Record<string, string | string[]>
  reply.hijack()
  const events = new EventStream(reply.raw, headers, outbox, options.stallTimeoutMs)
  try {
    await write((data) => events.send(JSON.stringify(data)))
  } catch (error) {
    request.log.error(error)
    await events.send(JSON.stringify(apiErrorOf(error).body))
  }
  events.end()
}
