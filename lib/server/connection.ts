// What a response shares with its connection: closes with it, and does not wait for ever for its client to read.
// Must not know: what is answered.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

const openResponses = new WeakMap<Socket, Set<ServerResponse>>()

/** Calls `closed` once when the response is over: sent, or given up by either side; at once where its connection is gone already. */
export function whenClosed({ socket }: IncomingMessage, response: ServerResponse, closed: () => void): void {
  if (response.destroyed || socket.destroyed) {
    closed()
    return
  }
  closeWithConnection(socket, response)
  response.once('close', closed)
}

/** Ends a response early, and its connection with it; one that waits for others on its connection ends it when its turn comes. */
export function cutOff(response: ServerResponse): void {
  const waiting = response.socket === null
  response.destroy()
  if (waiting) response.emit('close') // Node says so of a response that has the connection alone
}

/** Cuts off a client that takes nothing of what is left of the response for `ms`. */
export function limitUnread(response: ServerResponse, ms: number): void {
  response.setTimeout(ms, () => response.destroy())
  // For the next response on the connection. Where there is none, Node sets the limit of an idle connection after this.
  response.prependOnceListener('finish', () => response.setTimeout(0))
}

/** A pipelined request's response gets the connection when those before it have ended: until then Node does not close it with it. */
function closeWithConnection(socket: Socket, response: ServerResponse): void {
  let open = openResponses.get(socket)
  if (open === undefined) {
    const responses = new Set<ServerResponse>()
    open = responses
    openResponses.set(socket, open)
    // One listener for all: as many as a client may send requests ahead would look like a leak.
    socket.once('close', () => {
      for (const one of responses) if (one.socket === null) cutOff(one)
    })
  }
  open.add(response)
  response.once('close', () => open.delete(response))
}
