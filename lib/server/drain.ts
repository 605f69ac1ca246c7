// Shuts a server down: lets completions finish for a while, then aborts them, then closes connections.
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Admission } from './admission.js'
import { isConnected } from './connection.js'

/** Milliseconds for telling clients that their completions were aborted. */
export const LAST_WORDS_MS = 2000

/** Makes `app.close()` drain: it resolves when no request is under way and every connection of `app.server` is closed. */
export function drainOnClose(app: FastifyInstance, admission: Admission, timeoutMs: number): void {
  const connections = new Set<Socket>()
  app.server.on('connection', (socket: Socket) => {
    connections.add(socket)
    socket.once('close', () => connections.delete(socket))
  })
  app.addHook('preClose', (done) => {
    admission.drain()
    // Node takes a connection that was opened ahead of a request for busy until one has come over it.
    for (const socket of connections) if (socket.bytesRead === 0) socket.destroy()
    // Open connections keep the process alive; the timers must not keep it alive after them.
    setTimeout(() => admission.abortAll(), timeoutMs).unref()
    setTimeout(() => app.server.closeAllConnections(), timeoutMs + LAST_WORDS_MS).unref()
    done()
  })
  // Fastify does not wait for completions of a server that it is mounted in, or of a second address.
  app.addHook('onClose', () => admission.idle())
  // Fastify closes the connections that are idle at that moment; a connection that becomes idle later would stay open until
  // its keep-alive time is over.
  app.addHook('onRequest', ({ raw: { socket } }, reply, done) => {
    reply.raw.once('finish', () => {
      if (admission.draining && isConnected(socket)) socket.destroySoon()
    })
    done()
  })
  // A client that keeps its connections would send its next request over one that is about to be closed.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (admission.draining) reply.header('connection', 'close')
    done(null, payload)
  })
}
