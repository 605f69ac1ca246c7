// The handler of POST /v1/completions: starts the completions of a request and sends their answer, whole or streamed.
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { GenerateOptions } from '../sampling.js'
import type { Tokenizer } from '../tokenizer.js'
import { bestChoices } from './best_of.js'
import { type CompletionRequest, checkBody, completionFields, readCompletionRequest } from './completion_request.js'
import { type Choice, type Completion, choiceOf, completionHead } from './completion_response.js'
import { limitUnread, whenClosed } from './connection.js'
import { echoOf } from './echo.js'
import type { ServerParts } from './parts.js'
import { encodePrompts } from './prompt_tokens.js'
import { checkContext, checkLists, checkModel } from './request_checks.js'
import { collectChoices, type RunningChoice, runChoices, startChoices } from './running_choices.js'
import { streamAnswer } from './stream_answer.js'
import { checkFields } from './unknown_fields.js'
import { type Usage, usageOf } from './usage.js'
import { watchedHandler } from './watched_handler.js'

/** A request while its completions run. */
interface RunningRequest extends CompletionRequest {
  choices: RunningChoice[]
  promptTokens: number
}

export function completionsHandler(parts: ServerParts) {
  const { admission, metrics } = parts
  const { modelName, strict, stallTimeoutMs } = parts.options

  return watchedHandler(parts, 'text_completion', async (request, reply, served, watch) => {
    const { config } = served.engine.model
    checkFields(checkBody(request.body), completionFields, strict, (name) => metrics.ignoredField(name))
    const asked = readCompletionRequest(request.body, config)
    checkModel(asked.model, modelName)
    const completions = asked.prompts.length * asked.bestOf
    checkLists(asked.sampling, completions)
    const admitted = admission.admit(completions)
    try {
      whenClosed(request.raw, reply.raw, admitted.abort)
      const prompts = await encodePrompts(asked.prompts, served, admitted.signal)
      checkContext(prompts, asked.maxTokens, 'max_tokens', config.max_position_embeddings)
      const choices = startChoices(
        served,
        {
          prompts,
          perPrompt: asked.bestOf,
          field: 'prompt',
          maxTokens: asked.maxTokens,
          stop: asked.stop,
          minTokens: asked.sampling.minTokens ?? 0,
          optionsOf: (index) => generateOptions(asked, index),
          observe: () => metrics.observeCompletion(watch.arrived),
        },
        admitted.signal,
      )
      if (asked.echo) echoPrompts(asked, choices, served.tokenizer)
      const promptTokens = prompts.reduce((sum, { length }) => sum + length, 0)
      watch.running(choices, { maxTokens: asked.maxTokens, promptTokens, temperature: asked.sampling.temperature })
      const running = { ...asked, choices, promptTokens }
      if (!asked.stream) {
        const completion = await answerWhole(running, admitted.signal)
        limitUnread(reply.raw, stallTimeoutMs)
        return completion
      }
      await answerStream(running, request, reply)
      return undefined
    } finally {
      admitted.abort()
      admitted.release()
    }
  })

  /** Lets the choices begin with their prompts. The first of each prompt has the log-probabilities for all. */
  function echoPrompts(
    { prompts, bestOf }: CompletionRequest,
    choices: readonly RunningChoice[],
    tokenizer: Tokenizer,
  ) {
    prompts.forEach((given, i) => {
      const [first, ...others] = choices.slice(i * bestOf, (i + 1) * bestOf)
      const echo = first!.generation.promptTokens().then((tokens) => echoOf(tokenizer, given, first!.prompt, tokens))
      for (const choice of [first!, ...others]) choice.opening = echo
    })
  }

  async function answerWhole(running: RunningRequest, signal: AbortSignal): Promise<Completion> {
    const { choices, bestOf, n, logprobs, promptTokens } = running
    const { finished, tokens } = await collectChoices(choices, signal)
    const best = bestChoices(choices, bestOf, n)
    return {
      ...completionHead(modelName),
      choices: best.map(({ index: from }, index) => {
        return choiceOf(index, finished[from]!, logprobs, finished[from]!.finishReason)
      }),
      usage: usageOf(promptTokens, tokens),
    }
  }

  function answerStream(running: RunningRequest, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const { choices, logprobs, includeUsage, promptTokens } = running
    const head = completionHead(modelName)
    return streamAnswer(request, reply, parts, async (sendEvent) => {
      const send = (choices: Choice[], usage: Usage | null) =>
        sendEvent({ ...head, choices, ...(includeUsage && { usage }) } satisfies Completion)
      const tokens = await runChoices(choices, ({ index }, piece, finishReason) =>
        send([choiceOf(index, piece, logprobs, finishReason)], null),
      )
      if (includeUsage) await send([], usageOf(promptTokens, tokens))
    })
  }
}

/** The engine's options for the choice of this index. */
function generateOptions(asked: CompletionRequest, index: number): GenerateOptions {
  const { maxTokens, sampling, seed, logprobs, echo, bestOf } = asked
  const scored = maxTokens === 0 || (echo && logprobs !== null && index % bestOf === 0)
  return {
    ...sampling,
    maxTokens,
    ...(seed !== null && { seed: seed + index }),
    ...(logprobs && { topLogprobs: logprobs }),
    ...(scored && { promptLogprobs: logprobs ?? 0 }),
  }
}
