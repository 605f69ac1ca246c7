// `mor serve`: loads a checkpoint and serves it until it is told to stop.
import { basename, resolve } from 'node:path'
import type { LoadOptions } from '../model.js'
import { createServer, type ServerOptions } from '../server/index.js'
import { listen } from './listen.js'
import type { Output } from './output.js'
import { Reloader } from './reload.js'
import { loadCheckpoint } from './served_checkpoint.js'

export interface ServeCommandOptions
  extends Pick<LoadOptions, 'device' | 'dtype' | 'threads' | 'nice'>,
    Pick<
      ServerOptions,
      'apiKey' | 'corsOrigin' | 'bodyLimitBytes' | 'maxPromptTokens' | 'maxCompletions' | 'strict' | 'traces'
    > {
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
  logLevel: string
}

/**
 * Resolves when `signal` has aborted and the server has drained. SIGUSR2 loads the checkpoint again. Throws what its parts throw,
 * and IO_ERROR for the port.
 */
export async function serve(options: ServeCommandOptions, output: Output, signal: AbortSignal): Promise<void> {
  const { model: folder, device, dtype, threads, nice, host, port, maxBatchSize, kvCacheBytes } = options
  const { apiKey, corsOrigin, bodyLimitBytes, maxPromptTokens, maxCompletions, strict, traces } = options
  const modelName = options.modelName ?? basename(resolve(folder))
  const { tokenizer, chatTemplate } = options
  const engineOptions = { maxBatchSize, kvCacheBytes }
  const source = { folder, tokenizer, chatTemplate, load: { device, dtype, threads, nice }, engine: engineOptions }
  const load = () => loadCheckpoint(source, signal)
  let askedEarly = false
  let reload = () => {
    askedEarly = true
  }
  const onSignal = () => reload()
  // Without a handler the signal ends the process, so there is one from the beginning to the end.
  process.on('SIGUSR2', onSignal)
  let held: { close(): Promise<void> } | null = null
  try {
    const first = await load()
    held = first
    const app = createServer({
      ...first.served,
      modelName,
      apiKey,
      corsOrigin,
      bodyLimitBytes,
      maxPromptTokens,
      maxCompletions,
      strict,
      traces,
      drainTimeoutMs: Math.round(options.drainTimeout * 1000),
      logger: { level: options.logLevel, stream: process.stderr },
    })
    const reloader = new Reloader(app, first, load, output)
    held = reloader
    const url = await listen(app, host, port)
    output.event({ type: 'listening', url, model: modelName }, `serving ${modelName} at ${url}/v1`)
    reload = reloader.reload
    if (askedEarly) reload() // the weights may have changed since the first load began
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    output.event({ type: 'draining' }, 'finishing what is under way; once more to stop at once')
    await app.close()
  } finally {
    await held?.close()
    process.off('SIGUSR2', onSignal)
  }
  output.event({ type: 'end' }, 'stopped')
}
