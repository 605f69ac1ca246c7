// The handler of POST /v1/completions: starts the completions of a request and sends their answer, whole or streamed.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { toMorError } from '../errors.js'
import type { FinishReason, Generation } from '../generation.js'
import type { GenerateOptions } from '../sampling.js'
import type { Admission } from './admission.js'
import { ApiError, failureOf, invalidField, refusalOf, shuttingDown } from './api_error.js'
import { ChoiceText, type TextPiece } from './choice_text.js'
import { type CompletionRequest, readCompletionRequest } from './completion_request.js'
import { type Choice, type Completion, choiceOf, completionHead, type Usage, usageOf } from './completion_response.js'
import { limitUnread, whenClosed } from './connection.js'
import { EventStream } from './event_stream.js'
import type { CompletionObserver, ServerMetrics } from './metrics.js'
import type { ResolvedServerOptions } from './options.js'
import { Outbox } from './outbox.js'
import { encodePrompts } from './prompt_tokens.js'

/** One completion while it runs. */
interface RunningChoice {
  index: number
  promptTokens: number
  generation: Generation
  text: ChoiceText
  observer: CompletionObserver
}

/** A request while its completions run. */
interface RunningRequest extends CompletionRequest {
  promptTokens: number
  choices: RunningChoice[]
}

type Send = (choice: RunningChoice, piece: TextPiece, finishReason: FinishReason | null) => Promise<void> | void

export function completionsHandler(options: ResolvedServerOptions, admission: Admission, metrics: ServerMetrics) {
  const { config } = options.engine.model
  const outbox = new Outbox()

  return async (request: FastifyRequest, reply: FastifyReply): Promise<Completion | undefined> => {
    const arrived = performance.now()
    const asked = readCompletionRequest(request.body, config)
    checkModel(asked.model, options.modelName)
    const admitted = admission.admit(asked.prompts.length * asked.n)
    try {
      whenClosed(request.raw, reply.raw, admitted.abort)
      const prompts = await encodePrompts(asked.prompts, options, admitted.signal)
      checkContext(prompts, asked.maxTokens, config.max_position_embeddings)
      const running = start(asked, prompts, admitted.signal, () => metrics.observeCompletion(arrived))
      if (!asked.stream) {
        const completion = await answerWhole(running)
        limitUnread(reply.raw, options.stallTimeoutMs)
        return completion
      }
      await answerStream(running, request, reply)
      return undefined
    } finally {
      admitted.abort()
      admitted.release()
    }
  }

  /** Starts every completion, or none; all of them end when `signal` aborts. */
  function start(
    asked: CompletionRequest,
    prompts: readonly ArrayLike<number>[],
    signal: AbortSignal,
    observe: () => CompletionObserver,
  ): RunningRequest {
    if (signal.aborted) throw shuttingDown()
    const choices: RunningChoice[] = []
    const abort = () => {
      for (const { generation } of choices) generation.abort()
    }
    try {
      for (const prompt of prompts) {
        for (let i = 0; i < asked.n; i++) {
          const index = choices.length
          const generation = options.engine.generate(prompt, generateOptions(asked, index))
          const text = new ChoiceText(options.tokenizer.detokenizer(prompt), asked.stop)
          choices.push({ index, promptTokens: prompt.length, generation, text, observer: observe() })
        }
      }
    } catch (error) {
      abort()
      throw refusalOf(error)
    }
    // One listener serves all choices: Node warns of a leak where one signal has many.
    signal.addEventListener('abort', abort, { once: true })
    const promptTokens = prompts.reduce((sum, { length }) => sum + length, 0)
    return { ...asked, promptTokens, choices }
  }

  async function answerWhole(running: RunningRequest): Promise<Completion> {
    const pieces = running.choices.map((): TextPiece => ({ text: '', tokens: [] }))
    const reasons: FinishReason[] = []
    const completionTokens = await runAll(running, ({ index }, { text, tokens }, finishReason) => {
      pieces[index]!.text += text
      pieces[index]!.tokens.push(...tokens)
      if (finishReason !== null) reasons[index] = finishReason
    })
    // A client that has disconnected reads no answer; any other learns that its completion was cut short.
    if (reasons.includes('abort')) throw shuttingDown()
    return {
      ...completionHead(options.modelName),
      choices: pieces.map((piece, index) => choiceOf(index, piece, running.logprobs, reasons[index]!)),
      usage: usageOf(running.promptTokens, completionTokens),
    }
  }

  async function answerStream(running: RunningRequest, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const headers = reply.getHeaders() as Record<string, string | string[]>
    reply.hijack()
    const events = new EventStream(reply.raw, headers, outbox, options.stallTimeoutMs)
    const head = completionHead(options.modelName)
    const send = (choices: Choice[], usage: Usage | null) =>
      events.send(JSON.stringify({ ...head, choices, ...(running.includeUsage && { usage }) } satisfies Completion))
    try {
      const completionTokens = await runAll(running, (choice, piece, finishReason) =>
        send([choiceOf(choice.index, piece, running.logprobs, finishReason)], null),
      )
      if (running.includeUsage) await send([], usageOf(running.promptTokens, completionTokens))
    } catch (error) {
      request.log.error(error)
      await events.send(JSON.stringify(failureOf(toMorError(error)).body))
    }
    events.end()
  }

  /** Runs every completion to its end and returns how many tokens they generated. If one fails, all end and it throws. */
  async function runAll({ choices, maxTokens }: RunningRequest, send: Send): Promise<number> {
    let failure: unknown = null
    const run = async (choice: RunningChoice) => {
      try {
        return await runChoice(choice, maxTokens, send)
      } catch (error) {
        failure ??= error
        for (const { generation } of choices) generation.abort()
        return 0
      }
    }
    const counts = await Promise.all(choices.map(run))
    if (failure !== null) throw failure
    return counts.reduce((sum, count) => sum + count, 0)
  }
}

/** The engine's options for the choice of this index. */
function generateOptions(asked: CompletionRequest, index: number): GenerateOptions {
  const { maxTokens, temperature, topK, topP, seed, logprobs, routerThreshold, maxRecursions, priority } = asked
  return {
    maxTokens,
    temperature,
    topK,
    topP,
    ...(seed !== null && { seed: seed + index }),
    ...(logprobs && { topLogprobs: logprobs }),
    ...(routerThreshold !== null && { routerThreshold }),
    ...(maxRecursions !== null && { maxRecursions }),
    ...(priority !== null && { priority }),
  }
}

/** Sends the text of a completion in pieces, the last with the reason why it ended. Returns how many tokens it generated. */
async function runChoice(choice: RunningChoice, maxTokens: number, send: Send): Promise<number> {
  const { generation, text, observer, promptTokens } = choice
  let tokens = 0
  let last: TextPiece | null = null
  let reason: FinishReason = 'error'
  try {
    for await (const token of generation) {
      tokens++
      observer.token(token)
      const piece = text.push(token)
      if (text.stopped) {
        last = piece
        break
      }
      if (piece.text !== '' || piece.tokens.length > 0) await send(choice, piece, null)
    }
    last ??= text.finish()
    reason = text.stopped ? 'stop' : (await generation.result).finishReason
  } finally {
    observer.finished(reason, promptTokens, maxTokens)
  }
  await send(choice, last, reason)
  return tokens
}

function checkModel(asked: string, served: string): void {
  if (asked === served) return
  throw new ApiError(
    404,
    `the model ${JSON.stringify(asked)} is not here; this server has ${JSON.stringify(served)}`,
    'model_not_found',
    'model',
  )
}

function checkContext(prompts: readonly ArrayLike<number>[], maxTokens: number, context: number): void {
  for (const { length } of prompts) {
    if (length + maxTokens <= context) continue
    throw invalidField(
      length < context ? 'max_tokens' : 'prompt',
      `the prompt has ${length} tokens and max_tokens is ${maxTokens}, ${length + maxTokens} together; ` +
        `the context of the model holds ${context}`,
      'context_length_exceeded',
    )
  }
}
