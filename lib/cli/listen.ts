// Where a server of a command listens.
// Must not know: what it serves.
import type { FastifyInstance } from 'fastify'

/** Resolves to the URL. */
export function listen(app: FastifyInstance, host: string, port: number): Promise<string> {
  // The framework takes localhost for two addresses, and closing it waits for the connections of only one.
  return app.listen({ host: host === 'localhost' ? '127.0.0.1' : host, port })
}
