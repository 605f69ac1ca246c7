// The routes that tell of the server: its model, whether it is well, and its metrics.
import type { FastifyInstance, FastifyReply } from 'fastify'
import { ApiError } from './api_error.js'
import type { ServerParts } from './parts.js'

/** Probes and scrapes come every few seconds, so the log has a line of them only where something is wrong. */
const logLevel = 'warn'

export function addInformation(app: FastifyInstance, { options, models, metrics, admission }: ServerParts): void {
  const { modelName } = options
  const created = Math.floor(Date.now() / 1000)
  const model = () => ({
    id: modelName,
    object: 'model',
    created,
    owned_by: 'mixture-of-recursions',
    max_model_len: models.current.engine.model.config.max_position_embeddings,
  })
  app.get('/v1/models', () => ({ object: 'list', data: [model()] }))
  app.get<{ Params: { '*': string } }>('/v1/models/*', ({ params: { '*': id } }) => {
    if (id === modelName) return model()
    throw new ApiError(404, `the model ${JSON.stringify(id)} is not here`, 'model_not_found', 'model')
  })

  /** Whether the process can still serve at all. Throws where the engine is closed. */
  const live = () => {
    models.current.engine.stats()
    return { status: 'ok' }
  }
  /** Whether new requests are taken. */
  const ready = (_request: unknown, reply: FastifyReply) => {
    const answer = live()
    return admission.draining ? reply.code(503).send({ status: 'draining' }) : answer
  }
  const probe = { logLevel, config: { public: true } } as const
  app.get('/health', probe, ready)
  app.get('/health/ready', probe, ready)
  app.get('/health/live', probe, live)
  app.get('/metrics', { logLevel }, async (_request, reply) => {
    const text = await metrics.render()
    return reply.type(metrics.contentType).send(text)
  })
}
