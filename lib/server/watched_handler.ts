// The handlers of routes that generate: the model that is served, a line of the log and spans for each request.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type ApiError, apiErrorOf } from './api_error.js'
import type { ResolvedServerOptions } from './options.js'
import type { ServerParts } from './parts.js'
import { type RequestOperation, RequestWatch } from './request_watch.js'

export type GeneratingHandler<T> = (
  request: FastifyRequest,
  reply: FastifyReply,
  served: ResolvedServerOptions,
  watch: RequestWatch,
) => Promise<T>

/** The handler of a route that generates: gives `handle` the model that is served, and writes a line and spans at the end. */
export function watchedHandler<T>(parts: ServerParts, operation: RequestOperation, handle: GeneratingHandler<T>) {
  const { modelName } = parts.options
  return (request: FastifyRequest, reply: FastifyReply): Promise<T> =>
    parts.models.use(async (served) => {
      const watch = new RequestWatch()
      const span = parts.traces?.begin(request, operation, modelName, watch.arrived) ?? null
      let failure: ApiError | null = null
      try {
        return await handle(request, reply, served, watch)
      } catch (error) {
        failure = apiErrorOf(error)
        throw error
      } finally {
        const { summary, times, choices } = watch
        if (choices.length > 0) request.log.info({ ...summary, ...times }, `${operation} ended`)
        span?.end(choices, summary, failure)
      }
    })
}
