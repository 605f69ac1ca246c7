// The model that the tests of evaluation measure, and files of examples for it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Model } from '../../lib/model.js'
import { Tokenizer } from '../../lib/tokenizer.js'

export const byte = Tokenizer.byteLevel()
export let folder: string
export let mor: Model

export const config: ModelConfig = {
  vocab_size: byte.vocabSize,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 96,
  num_recursions: 3,
  initializer_range: 0.2,
  router: { type: 'expert_choice' },
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mor-evaluate-'))
  mor = await Model.create(config, { dtype: 'float32', device: 'cpu', seed: 2, tokenizer: byte })
})
afterAll(async () => {
  await mor.dispose()
  rmSync(folder, { recursive: true })
})

/** A file of JSON Lines. */
export function lines(name: string, values: unknown[]): string {
  const path = join(folder, name)
  writeFileSync(path, values.map((value) => JSON.stringify(value)).join('\n'))
  return path
}
