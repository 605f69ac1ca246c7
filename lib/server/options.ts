// The options of a server: defaults and checks.
import type { FastifyServerOptions } from 'fastify'
import type { ChatTemplate } from '../chat/chat_template.js'
import { readChatTemplate } from '../chat/option.js'
import { Checker, isObject, show } from '../check.js'
import type { Engine } from '../engine.js'
import { readTokenizer } from '../tokenizer/option.js'
import { checkVocabulary } from '../tokenizer/vocabulary.js'
import type { Tokenizer } from '../tokenizer.js'
import { LAST_WORDS_MS } from './drain.js'
import { checkText } from './field_reader.js'

/** The part of an Engine that the server uses. */
export type ServedEngine = Pick<Engine, 'generate' | 'stats'> & { readonly model: Pick<Engine['model'], 'config'> }

export interface ServerOptions {
  /** Belongs to the caller: closing the server does not close it. */
  engine: ServedEngine
  /** The tokenizer that the model was trained with. */
  tokenizer: Tokenizer
  /** Makes prompts of conversations: what `ChatTemplate.load` resolves to. Default: none, and `/v1/chat/completions` answers 400. */
  chatTemplate?: ChatTemplate | null
  /** The id that `/v1/models` lists and requests must name. */
  modelName: string
  /** The key that clients must send as `Authorization: Bearer <key>`, of ASCII. Default: none, and every client is served. */
  apiKey?: string
  /**
   * Origins whose pages may call the server from a browser, such as `https://app.example`, or `*` for all. Default: none.
   */
  corsOrigin?: string | readonly string[]
  /** Most bytes of a request body; more get status 413. Default 1 MiB. */
  bodyLimitBytes?: number
  /** Most tokens of a prompt; more get status 400. Default: one less than the context. */
  maxPromptTokens?: number
  /**
   * Most UTF-16 units of a prompt given as text, checked before it is encoded. Default: 16 times maxPromptTokens.
   */
  maxPromptCharacters?: number
  /** Most completions running and waiting at once; n completions of each prompt count each. More get 429. Default 1024. */
  maxCompletions?: number
  /**
   * Milliseconds after which a client is disconnected that makes no room in the buffers of its connection, which are full. The system
   * tells of room when about a third of them is free, so a client that reads very slowly is taken for one that reads nothing. Default
   * 30,000.
   */
  stallTimeoutMs?: number
  /** Milliseconds that `close()` lets completions go on before it aborts them. Default 30,000. */
  drainTimeoutMs?: number
  /** Whether fields that the server does not know are refused with status 400. Default: they are ignored and counted. */
  strict?: boolean
  /** Whether spans are made with OpenTelemetry, by the tracer provider that the process has registered. Default: none. */
  traces?: boolean
  /**
   * Logger of the HTTP framework (pino's options, such as `{ level: 'info' }`). Default: none. Lines have the id of the request,
   * which is the `x-request-id` of the client where it sent one, and that of the response. No text of a prompt or answer is logged.
   */
  logger?: FastifyServerOptions['logger']
}

export type ResolvedServerOptions = Required<Omit<ServerOptions, 'apiKey' | 'corsOrigin'>> & {
  apiKey: string | null
  corsOrigin: readonly string[]
}

/** The options of the model that is served, which can be replaced. */
export type ModelOptions = Pick<ServerOptions, 'engine' | 'tokenizer' | 'chatTemplate'>

/** Those that do not depend on the model. */
export type FixedOptions = Omit<ResolvedServerOptions, keyof ModelOptions | 'maxPromptTokens' | 'maxPromptCharacters'>

/** The longest time of a Node timer: a longer one would expire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1

const keys: readonly (keyof ServerOptions)[] = [
  'engine',
  'tokenizer',
  'chatTemplate',
  'modelName',
  'apiKey',
  'corsOrigin',
  'bodyLimitBytes',
  'maxPromptTokens',
  'maxPromptCharacters',
  'maxCompletions',
  'stallTimeoutMs',
  'drainTimeoutMs',
  'strict',
  'traces',
  'logger',
]

/** @throws {MorError} INVALID_ARGUMENT with the value and what is allowed; its message begins with `where` */
export function resolveServerOptions(options: ServerOptions, where = 'createServer'): ResolvedServerOptions {
  const check = Checker.of(options, where)
  check.onlyKeys(keys)
  const { logger = false } = options
  const engine = readEngine(check)
  const tokenizer =
    readTokenizer(check) ?? check.fail('tokenizer is missing; give the one that the model was trained with')
  const { vocab_size, max_position_embeddings: context } = engine.model.config
  checkVocabulary(tokenizer, vocab_size, where)
  const maxPromptTokens = check.integer('maxPromptTokens', { min: 1, max: context - 1, fallback: context - 1 })
  return {
    engine,
    tokenizer,
    logger,
    modelName: checkText(check, 'modelName'),
    apiKey: check.has('apiKey') ? readApiKey(check) : null,
    corsOrigin: readOrigins(check, options.corsOrigin ?? []),
    bodyLimitBytes: check.integer('bodyLimitBytes', { min: 1, fallback: 2 ** 20 }),
    maxPromptTokens,
    maxPromptCharacters: check.integer('maxPromptCharacters', { min: 1, fallback: 16 * maxPromptTokens }),
    maxCompletions: check.integer('maxCompletions', { min: 1, fallback: 1024 }),
    stallTimeoutMs: check.integer('stallTimeoutMs', { min: 1, fallback: 30_000 }),
    drainTimeoutMs: check.integer('drainTimeoutMs', { min: 0, max: MAX_TIMER_MS - LAST_WORDS_MS, fallback: 30_000 }),
    chatTemplate: readChatTemplate(check),
    strict: check.boolean('strict', false),
    traces: check.boolean('traces', false),
  }
}

function readEngine(check: Checker): ServedEngine {
  const engine = check.object.engine as Partial<ServedEngine> | null | undefined
  const isEngine = typeof engine?.generate === 'function' && typeof engine.stats === 'function'
  if (!isEngine || !isObject(engine.model?.config)) check.fail(`engine is ${show(engine)}; give an Engine`)
  return engine as ServedEngine
}

/** The key itself is not shown, since messages are logged. */
function readApiKey(check: Checker): string {
  const key = checkText(check, 'apiKey')
  if (/^[!-~]([ -~]*[!-~])?$/.test(key)) return key
  return check.fail(
    'apiKey has a character that clients cannot send in a header, such as a line end or a space at its end; use visible ASCII characters',
  )
}

function readOrigins(check: Checker, value: string | readonly string[]): readonly string[] {
  const origins = typeof value === 'string' ? [value] : value
  if (!Array.isArray(origins)) check.fail(`corsOrigin is ${show(value)}; it must be an origin or a list of origins`)
  const wrong = origins.find((origin) => !isOrigin(origin))
  if (wrong === undefined) return origins
  return check.fail(
    `corsOrigin has ${show(wrong)}; an origin is written as browsers send it, such as "https://app.example" or ` +
      '"http://localhost:5173" (scheme, host and port, without a path), or "*" for all',
  )
}

function isOrigin(value: unknown): boolean {
  if (typeof value !== 'string') return false
  if (value === '*') return true
  // Apps have schemes of their own, whose origins the URL class does not know.
  if (/^https?:/i.test(value)) return URL.canParse(value) && new URL(value).origin === value
  return /^[a-z][a-z\d+.-]*:\/\/[^/\\?#@\s]+$/.test(value)
}
