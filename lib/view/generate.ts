// The handler of POST view/generate: sends one generation as server-sent events, each token with its text and depth.
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Checker, show } from '../check.js'
import { MorError, toMorError } from '../errors.js'
import type { FinishReason, Generation } from '../generation.js'
import type { GenerateOptions } from '../sampling.js'
import type { Admission } from '../server/admission.js'
import { ApiError, failureOf, refusalOf } from '../server/api_error.js'
import { whenClosed } from '../server/connection.js'
import type { ServerOptions } from '../server/options.js'
import { encodePrompts } from '../server/prompt_tokens.js'
import type { Detokenizer } from '../tokenizer.js'

/** The data of an event. The text of a token is '' inside a character; the text of 'end' is that of an unfinished character. */
export type ViewEvent =
  | { type: 'token'; text: string; depth: number; logprob: number }
  | { type: 'end'; text: string; finishReason: FinishReason }
  | { type: 'error'; message: string }

const optionNames = [
  'maxTokens',
  'temperature',
  'topK',
  'topP',
  'seed',
  'routerThreshold',
  'maxRecursions',
] as const satisfies (keyof GenerateOptions)[]

const eventStreamHeaders = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' }

/** The longest prompt in UTF-16 units per token of the context; it is checked before the prompt is encoded. */
const CHARACTERS_PER_TOKEN = 16

/**
 * The body is `{ prompt, ... }` with options of `engine.generate` under their own names. A wrong body is answered with 400;
 * an error during the generation is sent as the last event.
 */
export function generateHandler(
  { engine, tokenizer }: Pick<ServerOptions, 'engine' | 'tokenizer'>,
  admission: Admission,
) {
  const maxPromptTokens = engine.model.config.max_position_embeddings - 1
  const limits = { tokenizer, maxPromptTokens, maxPromptCharacters: CHARACTERS_PER_TOKEN * maxPromptTokens }

  function start(tokens: ArrayLike<number>, options: GenerateOptions): Generation {
    try {
      return engine.generate(tokens, options)
    } catch (error) {
      const { status, message, code } = refusalOf(error)
      throw new ApiError(status, message, code) // The engine does not say which option it refuses.
    }
  }

  return async ({ body, raw }: FastifyRequest, reply: FastifyReply) => {
    const { prompt, options } = readBody(body)
    const { signal, abort, release } = admission.admit(1)
    try {
      whenClosed(raw, reply.raw, abort)
      const [tokens] = await encodePrompts([prompt], limits, signal)
      const generation = start(tokens!, options)
      signal.addEventListener('abort', () => generation.abort())
      generation.result.then(release)
      reply.headers(eventStreamHeaders)
      return reply.send(Readable.from(eventLines(generation, tokenizer.detokenizer(tokens!))))
    } catch (error) {
      release()
      throw error
    }
  }
}

function readBody(body: unknown): { prompt: string; options: GenerateOptions } {
  try {
    const check = Checker.of(body, 'the body')
    check.onlyKeys(['prompt', ...optionNames])
    const { prompt, ...options } = check.object
    if (typeof prompt !== 'string')
      throw new MorError('INVALID_ARGUMENT', `prompt is ${show(prompt)}; it must be a text`)
    return { prompt, options: options as unknown as GenerateOptions }
  } catch (error) {
    throw new ApiError(400, toMorError(error).message, 'invalid_value')
  }
}

async function* eventLines(generation: Generation, detokenizer: Detokenizer): AsyncGenerator<string> {
  for await (const event of events(generation, detokenizer)) yield `data: ${JSON.stringify(event)}\n\n`
}

async function* events(generation: Generation, detokenizer: Detokenizer): AsyncGenerator<ViewEvent> {
  try {
    for await (const { token, depth, logprob } of generation)
      yield { type: 'token', text: detokenizer.push(token), depth, logprob }
    yield { type: 'end', text: detokenizer.flush(), finishReason: (await generation.result).finishReason }
  } catch (error) {
    yield { type: 'error', message: failureOf(toMorError(error)).message }
  }
}
