// Puts the server together: Fastify, limits, errors, authorisation and routes.
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { TextDecoder } from 'node:util'
import { fastifyCors } from '@fastify/cors'
import { type FastifyInstance, type FastifyReply, fastify } from 'fastify'
import { Checker } from '../check.js'
import { Admission } from './admission.js'
import { ApiError, apiErrorOf } from './api_error.js'
import { bearerCheck } from './authorization.js'
import { answerBrokenConnection } from './broken_connection.js'
import { chatHandler } from './chat.js'
import { completionsHandler } from './completions.js'
import { drainOnClose } from './drain.js'
import { addInformation } from './information.js'
import { ServerMetrics } from './metrics.js'
import { type ModelOptions, resolveServerOptions, type ServerOptions } from './options.js'
import { Outbox } from './outbox.js'
import type { ServerParts } from './parts.js'
import { ServedModels } from './served_models.js'
import { detokenizeHandler, tokenizeHandler, tokenizerInfoHandler } from './tokenization.js'
import { RequestTraces } from './traces.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route needs no API key. */
    public?: boolean
  }
}

export type ModelServer = FastifyInstance & {
  /**
   * Serves another model from now on; requests that are under way finish on the one before. Resolves when none of these is left:
   * then the engine and the model before may be closed. Without `chatTemplate` the new model has none.
   * @throws {MorError} INVALID_ARGUMENT; then the model before is still served
   */
  replaceModel(model: ModelOptions): Promise<void>
}

/** The header with the id of a request: the client's own, or one that the server makes. */
const REQUEST_ID = 'x-request-id'

/** Milliseconds that a client has to send a whole request. */
const REQUEST_TIMEOUT_MS = 60_000

/** How long browsers keep the answer to a preflight. */
const PREFLIGHT_SECONDS = 600

/**
 * A server with OpenAI's completions API over one engine: `/v1/completions`, `/v1/chat/completions`, `/v1/models`, and
 * beside them `/tokenize`, `/detokenize`, `/tokenizer_info`, `/health`, `/health/live`, `/health/ready`, `/metrics`. It is a
 * Fastify instance: add routes and plugins, then `listen`, or mount `app.routing` in another server. Every route needs the
 * API key, except those with `config: { public: true }`. `close()` drains: it accepts no more requests, lets completions
 * finish for up to `drainTimeoutMs`, then aborts them. Engine and model stay open.
 * @throws {MorError} INVALID_ARGUMENT
 */
export function createServer(options: ServerOptions): ModelServer {
  const resolved = resolveServerOptions(options)
  const { engine, modelName, apiKey, corsOrigin, bodyLimitBytes, drainTimeoutMs, logger, traces } = resolved
  const app = fastify({
    logger,
    bodyLimit: bodyLimitBytes,
    requestTimeout: REQUEST_TIMEOUT_MS,
    return503OnClosing: false, // the routes' own answers say more
    genReqId: requestIdOf,
    clientErrorHandler: answerBrokenConnection,
    frameworkErrors: (error, _request, reply) => sendError(reply as unknown as FastifyReply, error),
  })
  const admission = new Admission(resolved.maxCompletions)
  const metrics = new ServerMetrics(engine, modelName)
  const models = new ServedModels(resolved)
  const parts: ServerParts = { options: resolved, models, admission, metrics, traces: null, outbox: new Outbox() }
  if (traces) {
    app.addHook('onReady', async () => {
      parts.traces = await RequestTraces.load()
    })
  }
  app.addHook('onRequest', ({ id }, reply, done) => {
    reply.header(REQUEST_ID, id)
    done()
  })

  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
    try {
      done(null, parseJson(body as Buffer))
    } catch (error) {
      done(error as Error)
    }
  })
  app.setErrorHandler((error, request, reply) => {
    const failure = apiErrorOf(error)
    const { status, code, param, message } = failure
    if (status >= 500 && failure !== error) request.log.error(error)
    else request.log.info({ status, code, param }, `refused: ${message}`)
    sendError(reply, failure)
  })
  app.setNotFoundHandler(({ method, url }, reply) => {
    sendError(reply, new ApiError(404, `there is no ${method} ${url}`, 'not_found'))
  })
  if (corsOrigin.length > 0) {
    app.register(fastifyCors, {
      origin: [...corsOrigin],
      exposedHeaders: ['retry-after', REQUEST_ID],
      maxAge: PREFLIGHT_SECONDS,
      strictPreflight: false, // its refusal would be plain text
    })
  }
  if (apiKey !== null) {
    const checkKey = bearerCheck(apiKey)
    // After all onRequest hooks: a plugin for CORS, ours or the user's, answers preflights there, which have no key.
    app.addHook('preParsing', (request, _reply, _payload, done) => {
      if (!request.routeOptions.config.public) checkKey(request.headers.authorization)
      done()
    })
  }
  drainOnClose(app, admission, drainTimeoutMs)

  app.post('/v1/completions', completionsHandler(parts))
  app.post('/v1/chat/completions', chatHandler(parts))
  app.post('/tokenize', tokenizeHandler(parts))
  app.post('/detokenize', detokenizeHandler(parts))
  app.get('/tokenizer_info', tokenizerInfoHandler(parts))
  addInformation(app, parts)
  const replaceModel: ModelServer['replaceModel'] = async (model) => {
    const before = models.current.engine
    Checker.of(model, 'replaceModel').onlyKeys(['engine', 'tokenizer', 'chatTemplate'])
    const { engine, tokenizer, chatTemplate = null } = model
    const next = resolveServerOptions({ ...options, engine, tokenizer, chatTemplate }, 'replaceModel')
    metrics.engines.add(next.engine)
    await models.replace(next)
    if (!models.isInUse(before)) metrics.engines.takeOut(before)
  }
  return app.decorate('replaceModel', replaceModel) as ModelServer
}

/** What a client may send as an id: it goes into logs and back into a header. */
function requestIdOf({ headers }: IncomingMessage): string {
  const given = headers[REQUEST_ID]
  return typeof given === 'string' && /^[\w.:/+=-]{1,128}$/.test(given) ? given : randomUUID()
}

function sendError(reply: FastifyReply, error: unknown): void {
  const { status, body } = apiErrorOf(error)
  if (status === 401) reply.header('www-authenticate', 'Bearer')
  if (status === 429) reply.header('retry-after', '1')
  reply.code(status).send(body)
}

/** @throws {ApiError} 400 for bytes that are not UTF-8 and text that is not JSON */
function parseJson(body: Buffer): unknown {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(body)
  } catch {
    throw new ApiError(400, 'the body is not UTF-8', 'invalid_utf8')
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ApiError(400, `the body is not JSON: ${(error as Error).message}`, 'invalid_json')
  }
}
