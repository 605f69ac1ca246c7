// The handler of POST /v1/chat/completions: makes a prompt of the messages and sends the answers, whole or streamed.
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { GenerateOptions } from '../sampling.js'
import { chatEncoding, chatPrompt } from './chat_prompt.js'
import { type ChatRequest, chatFields, readChatRequest } from './chat_request.js'
import { type ChatChunk, type ChatChunkChoice, type ChatCompletion, chatHead, chatLogprobs } from './chat_response.js'
import { checkBody } from './completion_request.js'
import { limitUnread, whenClosed } from './connection.js'
import type { ServerParts } from './parts.js'
import { encodePrompts } from './prompt_tokens.js'
import { checkContext, checkLists, checkModel } from './request_checks.js'
import { collectChoices, type RunningChoice, runChoices, startChoices } from './running_choices.js'
import { streamAnswer } from './stream_answer.js'
import { checkFields } from './unknown_fields.js'
import { type Usage, usageOf } from './usage.js'
import { watchedHandler } from './watched_handler.js'

/** A request while its answers are generated. */
interface RunningChat extends ChatRequest {
  choices: RunningChoice[]
  promptTokens: number
}

export function chatHandler(parts: ServerParts) {
  const { admission, metrics } = parts
  const { modelName, strict, stallTimeoutMs } = parts.options

  return watchedHandler(parts, 'chat', async (request, reply, served, watch) => {
    const { config } = served.engine.model
    const { max_position_embeddings: context } = config
    checkFields(checkBody(request.body), chatFields, strict, (name) => metrics.ignoredField(name))
    const asked = readChatRequest(request.body, config)
    checkModel(asked.model, modelName)
    checkLists(asked.sampling, asked.n)
    const text = chatPrompt(served, asked)
    const admitted = admission.admit(asked.n)
    try {
      whenClosed(request.raw, reply.raw, admitted.abort)
      const prompts = await encodePrompts([text], served, admitted.signal, chatEncoding)
      const promptTokens = prompts[0]!.length
      const maxTokens = asked.maxTokens ?? context - promptTokens
      checkContext(prompts, maxTokens, asked.maxTokensField, context)
      checkContext(prompts, asked.sampling.minTokens ?? 0, 'min_tokens', context)
      const choices = startChoices(
        served,
        {
          prompts,
          perPrompt: asked.n,
          field: chatEncoding.field,
          maxTokens,
          stop: asked.stop,
          minTokens: asked.sampling.minTokens ?? 0,
          optionsOf: (index) => generateOptions(asked, maxTokens, index),
          observe: () => metrics.observeCompletion(watch.arrived),
        },
        admitted.signal,
      )
      watch.running(choices, { maxTokens, promptTokens, temperature: asked.sampling.temperature })
      const running = { ...asked, choices, promptTokens }
      if (!asked.stream) {
        const answer = await answerWhole(running, admitted.signal)
        limitUnread(reply.raw, stallTimeoutMs)
        return answer
      }
      await answerStream(running, request, reply)
      return undefined
    } finally {
      admitted.abort()
      admitted.release()
    }
  })

  async function answerWhole(
    { choices, topLogprobs, promptTokens }: RunningChat,
    signal: AbortSignal,
  ): Promise<ChatCompletion> {
    const { finished, tokens } = await collectChoices(choices, signal)
    return {
      ...chatHead(modelName),
      object: 'chat.completion',
      choices: finished.map((choice, index) => ({
        index,
        message: { role: 'assistant', content: choice.text, refusal: null },
        logprobs: chatLogprobs(choice.tokens, topLogprobs !== null),
        finish_reason: choice.finishReason,
      })),
      usage: usageOf(promptTokens, tokens),
    }
  }

  function answerStream(running: RunningChat, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const { choices, topLogprobs, includeUsage, promptTokens } = running
    const head = { ...chatHead(modelName), object: 'chat.completion.chunk' as const }
    return streamAnswer(request, reply, parts, async (sendEvent) => {
      const send = (choices: ChatChunkChoice[], usage: Usage | null) =>
        sendEvent({ ...head, choices, ...(includeUsage && { usage }) } satisfies ChatChunk)
      const sendDelta = (index: number, choice: Omit<ChatChunkChoice, 'index'>) => send([{ index, ...choice }], null)
      for (const { index } of choices) {
        await sendDelta(index, { delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null })
      }
      const tokens = await runChoices(choices, async ({ index }, piece, finishReason) => {
        const logprobs = chatLogprobs(piece.tokens, topLogprobs !== null)
        if (piece.text !== '' || (logprobs !== null && piece.tokens.length > 0)) {
          await sendDelta(index, { delta: { content: piece.text }, logprobs, finish_reason: null })
        }
        if (finishReason !== null) await sendDelta(index, { delta: {}, logprobs: null, finish_reason: finishReason })
      })
      if (includeUsage) await send([], usageOf(promptTokens, tokens))
    })
  }
}

/** The engine's options for the answer of this index. */
function generateOptions(asked: ChatRequest, maxTokens: number, index: number): GenerateOptions {
  const { sampling, seed, topLogprobs } = asked
  return { ...sampling, maxTokens, ...(seed !== null && { seed: seed + index }), ...(topLogprobs && { topLogprobs }) }
}
