// The handlers of POST /tokenize, POST /detokenize and GET /tokenizer_info, in the form of vLLM's API.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { readTokenIds } from '../sampling.js'
import { clientGone, invalidField } from './api_error.js'
import { chatEncoding, chatPrompt } from './chat_prompt.js'
import { conversationFields, readConversation } from './chat_request.js'
import { checkBody } from './completion_request.js'
import { limitUnread, whenClosed } from './connection.js'
import { describe, FieldReader } from './field_reader.js'
import type { ServerMetrics } from './metrics.js'
import type { ResolvedServerOptions } from './options.js'
import type { ServerParts } from './parts.js'
import { checkLength, encodeTexts, type TextEncoding } from './prompt_tokens.js'
import { checkModel } from './request_checks.js'
import { checkFields } from './unknown_fields.js'

export interface Tokenization {
  count: number
  /** Tokens that the context holds. */
  max_model_len: number
  tokens: number[]
  /** The text of each token alone, special tokens by name; null if not asked for. */
  token_strs: string[] | null
}

export interface TokenizerInfo {
  /** The class of Hugging Face's library that reads every tokenizer.json. */
  tokenizer_class: 'PreTrainedTokenizerFast'
  /** Names, which /tokenize encodes as the tokens; null where there is none. */
  bos_token: string | null
  eos_token: string | null
  chat_template: string | null
}

const tokenizeFields = new Set(['model', 'prompt', ...conversationFields, 'add_special_tokens', 'return_token_strs'])
const detokenizeFields = new Set(['model', 'tokens'])

export function tokenizeHandler({ models, metrics }: ServerParts) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<Tokenization> => {
    const options = models.current
    const { tokenizer, maxPromptTokens } = options
    const { max_position_embeddings: max_model_len } = options.engine.model.config
    const reader = readerOf(request, 'tokenize', tokenizeFields, options, metrics)
    const { text, ...usual } = readText(reader, options)
    const encoding = { ...usual, addSpecialTokens: reader.boolean('add_special_tokens', usual.addSpecialTokens) }
    const named = reader.boolean('return_token_strs')
    const gone = new AbortController()
    whenClosed(request.raw, reply.raw, () => gone.abort(clientGone()))
    const [encoded] = await encodeTexts([text], options, gone.signal, encoding)
    const tokens = Array.from(encoded!)
    if (named) checkLength(tokens.length, maxPromptTokens, 'tokens', encoding) // naming them takes long
    const nameOf = (token: number) => tokenizer.decode([token], { skipSpecialTokens: false })
    limitUnread(reply.raw, options.stallTimeoutMs)
    return { count: tokens.length, max_model_len, tokens, token_strs: named ? tokens.map(nameOf) : null }
  }
}

export function detokenizeHandler({ models, metrics }: ServerParts) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<{ prompt: string }> => {
    const options = models.current
    const { vocab_size, max_position_embeddings } = options.engine.model.config
    const reader = readerOf(request, 'detokenize', detokenizeFields, options, metrics)
    const tokens = reader.read('tokens', (check) => readTokenIds(check, 'tokens', vocab_size))
    checkLength(tokens.length, max_position_embeddings, 'tokens', { field: 'tokens' })
    limitUnread(reply.raw, options.stallTimeoutMs)
    return { prompt: options.tokenizer.decode(tokens, { skipSpecialTokens: false }) }
  }
}

export function tokenizerInfoHandler({ models }: ServerParts) {
  return (): TokenizerInfo => {
    const { tokenizer, chatTemplate } = models.current
    const nameOf = (token: number | null) =>
      token === null ? null : tokenizer.decode([token], { skipSpecialTokens: false })
    return {
      tokenizer_class: 'PreTrainedTokenizerFast',
      bos_token: nameOf(tokenizer.bosTokenId),
      eos_token: nameOf(tokenizer.eosTokenId),
      chat_template: chatTemplate?.source ?? null,
    }
  }
}

/** The text under `prompt`, or that of the conversation under `messages`, and how it is encoded by default. */
function readText(reader: FieldReader, served: ResolvedServerOptions): TextEncoding & { text: string } {
  if (reader.has('messages')) {
    return { text: chatPrompt(served, readConversation(reader)), ...chatEncoding }
  }
  const prompt = reader.value('prompt')
  if (typeof prompt === 'string') return { text: prompt, addSpecialTokens: true, field: 'prompt' }
  throw invalidField('prompt', `prompt is ${describe(prompt)}; it must be a text`, 'invalid_type')
}

/** Of a body that may name the model. */
function readerOf(
  { body }: FastifyRequest,
  where: string,
  known: ReadonlySet<string>,
  { strict, modelName }: ResolvedServerOptions,
  metrics: ServerMetrics,
): FieldReader {
  const object = checkBody(body)
  checkFields(object, known, strict, (name) => metrics.ignoredField(name))
  const reader = new FieldReader(object, where)
  if (reader.has('model')) checkModel(reader.text('model'), modelName)
  return reader
}
