// The life of a response and its connection: closes both together, and limits the time that a client may not read.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'

const openResponses = new WeakMap<Socket, Set<ServerResponse>>()

/**
 * Calls `closed` once when the response is over, because it was sent or either side gave it up; at once if its connection
 * is already closed.
 */
export function whenClosed({ socket }: IncomingMessage, response: ServerResponse, closed: () => void): void {
  if (response.destroyed || socket.destroyed) {
    closed()
    return
  }
  closeWithConnection(socket, response)
  response.once('close', closed)
}

/**
 * Ends a response early and closes its connection. If earlier responses on that connection are still being sent, it closes
 * the connection after them.
 */
export function cutOff(response: ServerResponse): void {
  const waiting = response.socket === null
  response.destroy()
  if (waiting) response.emit('close') // Node emits it only for the response that is being sent on the connection
}

/** Whether a part of a response has been sent on the connection, of one that `whenClosed` was called for. */
export function hasBegunAnswer(socket: Socket): boolean {
  return [...(openResponses.get(socket) ?? [])].some(({ headersSent }) => headersSent)
}

/** False for a request of Fastify's `inject`, whose socket is of another kind: there is no client that could be slow or idle. */
export function isConnected(socket: Socket): boolean {
  return socket instanceof Socket
}

/** Disconnects a client that reads nothing of the rest of the response for `ms`. */
export function limitUnread(response: ServerResponse, ms: number): void {
  if (response.socket !== null && !isConnected(response.socket)) return
  response.setTimeout(ms, () => response.destroy())
  // The next response on the connection starts without a limit. Without a next response Node sets that of idle connections.
  response.prependOnceListener('finish', () => response.setTimeout(0))
}

/**
 * Closes a pipelined request's response with its connection: Node does so only once the responses before it have ended.
 */
function closeWithConnection(socket: Socket, response: ServerResponse): void {
  let open = openResponses.get(socket)
  if (open === undefined) {
    const responses = new Set<ServerResponse>()
    open = responses
    openResponses.set(socket, open)
    // One listener serves all responses: one for each of many pipelined requests would look like a leak to Node.
    socket.once('close', () => {
      for (const one of responses) if (one.socket === null) cutOff(one)
    })
  }
  open.add(response)
  response.once('close', () => open.delete(response))
}
