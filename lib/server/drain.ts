// The end of a server: lets what is under way finish for a while, then aborts it, then cuts connections.
// Must not know: what the requests do.
import type { FastifyInstance } from 'fastify'
import type { Admission } from './admission.js'

/** Time for aborted completions to be told to their clients. */
export const LAST_WORDS_MS = 2000

/** Makes `app.close()` drain: it resolves when nothing is under way and every connection of `app.server` is closed. */
export function drainOnClose(app: FastifyInstance, admission: Admission, timeoutMs: number): void {
  app.addHook('preClose', (done) => {
    admission.drain()
    // Connections keep the process alive; the timers need not, once those are gone.
    setTimeout(() => admission.abortAll(), timeoutMs).unref()
    setTimeout(() => app.server.closeAllConnections(), timeoutMs + LAST_WORDS_MS).unref()
    done()
  })
  // Completions also come from where the framework waits for no connection: a server that it is mounted in, a second address.
  app.addHook('onClose', () => admission.idle())
  // The framework closes the connections that are idle when it is closed; one that falls idle later would stay for as long as
  // it is kept alive.
  app.addHook('onRequest', ({ raw: { socket } }, reply, done) => {
    reply.raw.once('finish', () => {
      if (admission.draining) socket.destroySoon()
    })
    done()
  })
}
