// Errors in the form of OpenAI's API, and which of them answers a failure of the engine.
import { type ErrorCode, type MorError, toMorError } from '../errors.js'

/** The body of every response that reports an error. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null }
}

/** A response with `status` (400..599); `param` names the field of the request that is wrong. */
export class ApiError extends Error {
  override readonly name = 'ApiError'

  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
    readonly param: string | null = null,
  ) {
    super(message)
  }

  get body(): ErrorBody {
    return { error: { message: this.message, type: typeOf(this.status), param: this.param, code: this.code } }
  }
}

/** A field that is missing, unknown, of a wrong type or out of range. */
export function invalidField(param: string, message: string, code: string | null = null): ApiError {
  return new ApiError(400, message, code, param)
}

/** 503: this server is shutting down; another instance or a later attempt may succeed. */
export function shuttingDown(): ApiError {
  return new ApiError(503, 'the server is shutting down; send the request again elsewhere or later', 'shutting_down')
}

/** 499, as proxies log it: the client left before its answer, which nobody reads. */
export function clientGone(): ApiError {
  return new ApiError(499, 'the client has disconnected', 'client_disconnected')
}

/** The codes with which the engine refuses a request, and which are answered with status 400. */
const refusals: Partial<Record<ErrorCode, string>> = {
  INVALID_ARGUMENT: 'invalid_value',
  TOKEN_OUT_OF_RANGE: 'invalid_value',
  CONTEXT_OVERFLOW: 'context_length_exceeded',
}

/** The response to what `engine.generate` throws: it checks the prompt, everything else was checked before. */
export function refusalOf(error: unknown, field = 'prompt'): ApiError {
  return asRefusal(error, field) ?? failureOf(toMorError(error))
}

/** The response to a generation that the engine refused at once or later; null for one that failed. */
export function asRefusal(error: unknown, field: string): ApiError | null {
  const failure = toMorError(error)
  const code = refusals[failure.code]
  return code === undefined ? null : invalidField(field, failure.message, code)
}

/** The response to a failure that is not the client's: 503 if the engine is closed, else 500 without internal details. */
export function failureOf(error: MorError): ApiError {
  if (error.code === 'DISPOSED' || error.code === 'ABORTED') return shuttingDown()
  return new ApiError(500, `the generation failed [${error.code}]`, 'generation_failed')
}

const frameworkErrors: Record<string, ConstructorParameters<typeof ApiError>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: [
    413,
    'the body is larger than this server takes; send a shorter prompt',
    'body_too_large',
  ],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [415, 'send the body as content-type application/json', 'invalid_media_type'],
}

/** The response to anything thrown while a request was handled, also by Fastify itself, and to the reason of an abort. */
export function apiErrorOf(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  const { statusCode, code, message } = (error ?? {}) as { statusCode?: number; code?: string; message?: string }
  const known = frameworkErrors[code ?? '']
  if (known !== undefined) return new ApiError(...known)
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new ApiError(statusCode, message ?? 'bad request', 'bad_request')
  }
  return failureOf(toMorError(error))
}

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error'
  if (status === 429) return 'rate_limit_error'
  return status < 500 ? 'invalid_request_error' : 'server_error'
}
