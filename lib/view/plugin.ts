// A page that shows each token's recursion depth, as a plugin of the server: the page and its requests.
import type { FastifyInstance } from 'fastify'
import type { RouterConfig } from '../config_router.js'
import type { EngineStats } from '../native/engine.js'
import { Admission } from '../server/admission.js'
import type { ServerOptions } from '../server/index.js'
import { generateHandler } from './generate.js'
import { pageHeaders, readPage } from './page.js'

export type ViewOptions = Pick<ServerOptions, 'engine' | 'tokenizer' | 'modelName'>

/** The response of `view/stats`. */
export interface ViewStats {
  model: { name: string; recursions: number; context: number; kvCache: string; router: RouterConfig['type'] | null }
  engine: EngineStats
}

/** Most generations that all pages together may have under way. */
const MAX_GENERATIONS = 64

/**
 * Adds, below the prefix of its registration: `GET /`, the page, and its files; `GET /view/stats` (ViewStats); and
 * `POST /view/generate` (generate.ts). The page itself needs no API key, its requests do. Closing the server ends the
 * generations at once.
 */
export async function viewPlugin(app: FastifyInstance, options: ViewOptions): Promise<void> {
  const { engine, modelName } = options
  const {
    num_recursions: recursions,
    max_position_embeddings: context,
    kv_cache: kvCache,
    router,
  } = engine.model.config
  for (const { url, type, content } of await readPage())
    app.get(url, { config: { public: true } }, (_request, reply) => reply.headers(pageHeaders).type(type).send(content))

  const model = { name: modelName, recursions, context, kvCache, router: router?.type ?? null }
  app.get('/view/stats', (): ViewStats => ({ model, engine: engine.stats() }))

  const admission = new Admission(MAX_GENERATIONS)
  app.post('/view/generate', generateHandler(options, admission))
  app.addHook('preClose', (done) => {
    admission.drain()
    admission.abortAll()
    done()
  })
  app.addHook('onClose', () => admission.idle())
}
