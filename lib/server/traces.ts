// Spans of OpenTelemetry for each request: the request, and for each completion its time in the queue, prefill and decoding.
import type * as OpenTelemetry from '@opentelemetry/api'
import type { FastifyRequest } from 'fastify'
import { MorError } from '../errors.js'
import type { ApiError } from './api_error.js'
import type { RequestOperation, RequestSummary } from './request_watch.js'
import type { RunningChoice } from './running_choices.js'

type Api = typeof OpenTelemetry

/** Makes spans with the tracer provider that the process has registered; without one they go nowhere. */
export class RequestTraces {
  readonly #api: Api

  constructor(api: Api) {
    this.#api = api
  }

  /** @throws {MorError} INVALID_ARGUMENT where the package is not installed */
  static async load(): Promise<RequestTraces> {
    try {
      return new RequestTraces(await import('@opentelemetry/api'))
    } catch (error) {
      const message = `traces need the package @opentelemetry/api: npm install @opentelemetry/api (${(error as Error).message})`
      throw new MorError('INVALID_ARGUMENT', message, { cause: error })
    }
  }

  /**
   * Starts the span of a request, below the span that is active, or else the one that the request's `traceparent` names.
   * @param arrived in milliseconds of `performance.now()`, as all times here
   */
  begin({ headers, id }: FastifyRequest, operation: RequestOperation, model: string, arrived: number): RequestSpan {
    const { context, propagation, SpanKind, trace } = this.#api
    const active = context.active()
    const parent = trace.getSpan(active) === undefined ? propagation.extract(active, headers) : active
    const attributes = { 'gen_ai.operation.name': operation, 'gen_ai.request.model': model, 'mor.request.id': id }
    const options = { kind: SpanKind.SERVER, startTime: epochOf(arrived), attributes }
    const tracer = trace.getTracer('mixture-of-recursions')
    const span = tracer.startSpan(`${operation} ${model}`, options, parent)
    return new RequestSpan(this.#api, tracer, span, trace.setSpan(parent, span))
  }
}

export class RequestSpan {
  readonly #api: Api
  readonly #tracer: OpenTelemetry.Tracer
  readonly #span: OpenTelemetry.Span
  /** That of spans below this one. */
  readonly #context: OpenTelemetry.Context

  constructor(api: Api, tracer: OpenTelemetry.Tracer, span: OpenTelemetry.Span, context: OpenTelemetry.Context) {
    this.#api = api
    this.#tracer = tracer
    this.#span = span
    this.#context = context
  }

  /** @param failure null: there was an answer */
  end(choices: readonly RunningChoice[], summary: RequestSummary, failure: ApiError | null): void {
    const now = performance.now()
    for (const choice of choices) this.#addStages(choice, now)
    this.#span.setAttributes({
      'gen_ai.request.max_tokens': summary.maxTokens,
      'gen_ai.request.temperature': summary.temperature,
      'gen_ai.request.choice.count': choices.length,
      'gen_ai.usage.input_tokens': summary.promptTokens,
      'gen_ai.usage.output_tokens': summary.completionTokens,
      'gen_ai.response.finish_reasons': summary.finishReasons,
      'http.response.status_code': failure?.status ?? 200,
      ...(failure !== null && { 'error.type': failure.code ?? String(failure.status) }),
    })
    const failed = summary.finishReasons.includes('error') || (failure !== null && failure.status >= 500)
    if (failed) this.#span.setStatus({ code: this.#api.SpanStatusCode.ERROR, message: failure?.message })
    this.#span.end(epochOf(now))
  }

  /** A stage that a completion did not reach has no span; the one in which it ended goes on to its end. */
  #addStages({ index, generation, prompt, tokens, depths }: RunningChoice, now: number): void {
    const { submitted, began, firstToken, ended } = generation.timing
    const end = ended ?? now
    const add = (name: string, from: number | null, to: number, attributes: OpenTelemetry.Attributes = {}) => {
      if (from === null) return
      const all = { 'mor.choice.index': index, ...attributes }
      const options = { startTime: epochOf(from), attributes: all }
      this.#tracer.startSpan(name, options, this.#context).end(epochOf(to))
    }
    add('queue', submitted, began ?? end)
    add('prefill', began, firstToken ?? end, { 'gen_ai.usage.input_tokens': prompt.length })
    const meanDepth = tokens === 0 ? 0 : depths / tokens
    add('decode', firstToken, end, { 'gen_ai.usage.output_tokens': tokens, 'mor.depth.mean': meanDepth })
  }
}

/** Milliseconds since 1970, of milliseconds of `performance.now()`. */
function epochOf(time: number): number {
  return performance.timeOrigin + time
}
