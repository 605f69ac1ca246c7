// Makes a tiny model with routers over bytes, and servers for it at a free port.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ModelConfig } from '../../../lib/config.js'
import { Engine } from '../../../lib/engine.js'
import { Model } from '../../../lib/model.js'
import { createServer, type ServerOptions } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'

const config: ModelConfig = {
  vocab_size: 257,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 256,
  tie_word_embeddings: false, // a tied model without training would repeat its input
  initializer_range: 0.2,
  eos_token_id: 256,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}

export function makeTinyModel(seed = 5): Promise<Model> {
  const tokenizer = Tokenizer.byteLevel()
  return Model.create(config, { device: 'cpu', dtype: 'float32', threads: 1, seed, tokenizer })
}

/** Saves its checkpoint in a temporary folder, which `remove` deletes. */
export async function saveTinyModel(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'mor-server-'))
  await using model = await makeTinyModel()
  await model.save(folder)
  return { folder, remove: () => rm(folder, { recursive: true }) }
}

/** A server at a free port of 127.0.0.1; disposing of it closes engine and model too. */
export async function listen(options: Partial<ServerOptions> = {}) {
  const model = options.engine === undefined ? await makeTinyModel() : null
  const engine = options.engine ?? new Engine(model!)
  const app = createServer({
    tokenizer: Tokenizer.byteLevel(),
    modelName: 'tiny',
    drainTimeoutMs: 500,
    ...options,
    engine,
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  return {
    app,
    engine,
    url,
    async [Symbol.asyncDispose]() {
      await app.close()
      if (engine instanceof Engine) await engine.close()
      await model?.dispose()
    },
  }
}

export type TestServer = Awaited<ReturnType<typeof listen>>

export function post(
  url: string,
  body: object | string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
) {
  return fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
  })
}
