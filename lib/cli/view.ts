// `mor view`: loads a checkpoint and serves the page that shows its recursion depths, until it is told to stop.
import { basename, resolve } from 'node:path'
import { Engine } from '../engine.js'
import { type LoadOptions, Model } from '../model.js'
import { createServer, type ServerOptions } from '../server/index.js'
import { viewPlugin } from '../view/plugin.js'
import { listen } from './listen.js'
import type { Output } from './output.js'
import { findCheckpointTokenizer } from './tokenizer_source.js'

export interface ViewCommandOptions
  extends Pick<LoadOptions, 'device' | 'dtype' | 'threads' | 'nice'>,
    Pick<ServerOptions, 'apiKey'> {
  /** Checkpoint folder. */
  model: string
  tokenizer?: string
  host: string
  port: number
}

/**
 * Resolves when `signal` has aborted and the server is closed. Throws what its parts throw, and IO_ERROR for the port.
 */
export async function view(options: ViewCommandOptions, output: Output, signal: AbortSignal): Promise<void> {
  const { model: folder, device, dtype, threads, nice, host, port, apiKey } = options
  const modelName = basename(resolve(folder))
  const tokenizer = await findCheckpointTokenizer(folder, options.tokenizer)
  await using model = await Model.load(folder, { device, dtype, threads, nice, signal })
  await using engine = new Engine(model)
  const logger = { level: 'error', stream: process.stderr }
  const app = createServer({ engine, tokenizer, modelName, apiKey, logger, drainTimeoutMs: 0 })
  await app.register(viewPlugin, { engine, tokenizer, modelName })
  const url = `${await listen(app, host, port)}/`
  output.event({ type: 'listening', url, model: modelName }, `${modelName}: open ${url} in a browser`)
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  await app.close()
  output.event({ type: 'end' }, 'stopped')
}
