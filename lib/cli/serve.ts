// `mor serve`: loads a checkpoint and serves it until it is told to stop.
import { basename, resolve } from 'node:path'
import { ChatTemplate } from '../chat/chat_template.js'
import { Engine } from '../engine.js'
import { type LoadOptions, Model } from '../model.js'
import { createServer, type ServerOptions } from '../server/index.js'
import { listen } from './listen.js'
import type { Output } from './output.js'
import { findCheckpointTokenizer } from './tokenizer_source.js'

export interface ServeCommandOptions
  extends Pick<LoadOptions, 'device' | 'dtype' | 'threads' | 'nice'>,
    Pick<ServerOptions, 'apiKey' | 'corsOrigin' | 'bodyLimitBytes' | 'maxPromptTokens' | 'maxCompletions' | 'strict'> {
  /** Checkpoint folder. */
  model: string
  /** Default: the folder's name. */
  modelName?: string
  tokenizer?: string
  /** File of the template of conversations. */
  chatTemplate?: string
  host: string
  port: number
  maxBatchSize: number
  kvCacheBytes: number
  /** Seconds. */
  drainTimeout: number
}

/**
 * Resolves when `signal` has aborted and the server has drained. Throws what its parts throw, and IO_ERROR for the port.
 */
export async function serve(options: ServeCommandOptions, output: Output, signal: AbortSignal): Promise<void> {
  const { model: folder, device, dtype, threads, nice, host, port, maxBatchSize, kvCacheBytes } = options
  const { apiKey, corsOrigin, bodyLimitBytes, maxPromptTokens, maxCompletions, strict } = options
  const modelName = options.modelName ?? basename(resolve(folder))
  const tokenizer = await findCheckpointTokenizer(folder, options.tokenizer)
  const chatTemplate = await ChatTemplate.load(options.chatTemplate ?? folder)
  await using model = await Model.load(folder, { device, dtype, threads, nice, signal })
  await using engine = new Engine(model, { maxBatchSize, kvCacheBytes })
  const app = createServer({
    engine,
    tokenizer,
    chatTemplate,
    modelName,
    apiKey,
    corsOrigin,
    bodyLimitBytes,
    maxPromptTokens,
    maxCompletions,
    strict,
    drainTimeoutMs: Math.round(options.drainTimeout * 1000),
    logger: { level: 'error', stream: process.stderr },
  })
  const url = await listen(app, host, port)
  output.event({ type: 'listening', url, model: modelName }, `serving ${modelName} at ${url}/v1`)
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  output.event({ type: 'draining' }, 'finishing what is under way; once more to stop at once')
  await app.close()
  output.event({ type: 'end' }, 'stopped')
}
