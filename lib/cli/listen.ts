// Makes a command's server listen on an address.
import type { FastifyInstance } from 'fastify'

/** Resolves to the URL. */
export function listen(app: FastifyInstance, host: string, port: number): Promise<string> {
  // Fastify listens on two addresses for localhost, and waits for connections of only one of them when it closes.
  return app.listen({ host: host === 'localhost' ? '127.0.0.1' : host, port })
}
