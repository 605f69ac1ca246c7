// A language model of the AI SDK over an Engine of this process.
import { randomUUID } from 'node:crypto'
import type {
  LanguageModelV3,
  LanguageModelV3CallOptions,
  LanguageModelV3FinishReason,
  LanguageModelV3StreamPart,
  LanguageModelV3Usage,
  SharedV3Warning,
} from '@ai-sdk/provider'
import { Checker, show } from '../check.js'
import type { Engine } from '../engine.js'
import { MorError } from '../errors.js'
import type { Generation, GenerationResult } from '../generation.js'
import { readConversation, readText } from './prompt.js'
import { providerKey, readSettings, settingWarnings } from './settings.js'

/** The part of an Engine that the language model uses. */
export type LanguageModelEngine = Pick<Engine, 'chat' | 'generate'> & {
  readonly model: Pick<Engine['model'], 'config'>
}

export interface LanguageModelOptions {
  /** The name of the model in results and traces. Default "mixture-of-recursions". */
  modelId?: string
  /**
   * `chat` (the default): the model's chat template makes the prompt of the messages. `completion`: the model goes on from the
   * text of `prompt`, and there can be no other messages; for models without a chat template.
   */
  mode?: 'chat' | 'completion'
}

/** One call under way. */
interface Call {
  generation: Generation
  warnings: SharedV3Warning[]
  response: { id: string; timestamp: Date; modelId: string }
}

const finishReasons = { stop: 'stop', length: 'length', abort: 'other', error: 'error' } as const

/**
 * A language model for `generateText` and `streamText` of the AI SDK. Settings that it does not have are warnings of the
 * result; files and calls of tools in messages are errors. `providerOptions.mor` takes further options of `engine.chat`, such as
 * `maxRecursions`; `providerMetadata.mor.depths` is how many recursions ran for each token. The engine stays the caller's.
 * @throws {MorError} INVALID_ARGUMENT
 */
export function createLanguageModel(engine: LanguageModelEngine, options: LanguageModelOptions = {}): LanguageModelV3 {
  const check = Checker.of(options, 'createLanguageModel')
  check.onlyKeys(['modelId', 'mode'])
  if (typeof engine?.generate !== 'function' || typeof engine.chat !== 'function')
    check.fail(`the engine is ${show(engine)}; give an Engine`)
  const { modelId = 'mixture-of-recursions' } = options
  const mode = check.choice('mode', ['chat', 'completion'], 'chat')

  const start = (call: LanguageModelV3CallOptions): Call => {
    const settings = readSettings(call)
    const response = { id: `mor-${randomUUID()}`, timestamp: new Date(), modelId }
    if (mode === 'completion') {
      const { prompt, warnings } = readText(call.prompt)
      const maxTokens = settings.maxTokens ?? engine.model.config.max_position_embeddings
      const generation = engine.generate(prompt, { ...settings, maxTokens })
      return { generation, response, warnings: [...settingWarnings(call), ...warnings] }
    }
    const { prompt, warnings } = readConversation(call.prompt)
    const generation = engine.chat(prompt, settings)
    return { generation, response, warnings: [...settingWarnings(call), ...warnings] }
  }

  return {
    specificationVersion: 'v3',
    provider: providerKey,
    modelId,
    supportedUrls: {},
    async doGenerate(options) {
      const { generation, response, warnings } = start(options)
      const result = await ended(generation, options.abortSignal)
      return { content: [{ type: 'text', text: result.text ?? '' }], ...endOf(generation, result), response, warnings }
    },
    async doStream(options) {
      const call = start(options)
      const parts = partsOf(call, options.abortSignal)
      const stream = new ReadableStream<LanguageModelV3StreamPart>({
        async pull(controller) {
          const { done, value } = await parts.next()
          if (done) controller.close()
          else controller.enqueue(value)
        },
        cancel: () => call.generation.abort(),
      })
      return { stream }
    },
  }
}

/**
 * The result of a generation that has come to its own end.
 * @throws the reason of `signal` where it aborted, or the generation's error
 */
async function ended(generation: Generation, signal: AbortSignal | undefined): Promise<GenerationResult> {
  const result = await generation.result
  if (result.finishReason === 'abort') {
    signal?.throwIfAborted()
    throw new MorError('ABORTED', 'the generation was aborted, because its reader left or the engine was closed')
  }
  if (result.error !== undefined) throw result.error
  return result
}

/** The parts of a stream. An error is one of them; an abort by `signal` throws its reason. */
async function* partsOf(
  { generation, response, warnings }: Call,
  signal: AbortSignal | undefined,
): AsyncGenerator<LanguageModelV3StreamPart, void, undefined> {
  const id = '0'
  yield { type: 'stream-start', warnings }
  yield { type: 'response-metadata', ...response }
  yield { type: 'text-start', id }
  try {
    for await (const delta of generation.text()) yield { type: 'text-delta', id, delta }
    await ended(generation, signal)
  } catch (error) {
    signal?.throwIfAborted()
    yield { type: 'error', error }
  }
  yield { type: 'text-end', id }
  yield { type: 'finish', ...endOf(generation, await generation.result) }
}

function endOf(generation: Generation, { finishReason, tokens, depths }: GenerationResult) {
  const inputTokens = { total: generation.promptLength ?? undefined, noCache: undefined }
  return {
    finishReason: { unified: finishReasons[finishReason], raw: finishReason } satisfies LanguageModelV3FinishReason,
    usage: {
      inputTokens: { ...inputTokens, cacheRead: undefined, cacheWrite: undefined },
      outputTokens: { total: tokens.length, text: tokens.length, reasoning: 0 },
    } satisfies LanguageModelV3Usage,
    providerMetadata: { [providerKey]: { depths } },
  }
}
