// What model_size says of a token's keys and values, against what an engine holds. The addon must have been built.
import { expect, it } from 'vitest'
import { type ModelConfig, resolveConfig } from '../../lib/config.js'
import { Engine } from '../../lib/engine.js'
import { Model } from '../../lib/model.js'
import { kvBytesPerToken } from '../../lib/model_size.js'

const base: ModelConfig = {
  vocab_size: 48,
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 8,
  num_attention_heads: 2,
  max_position_embeddings: 2048,
}
const recursive: ModelConfig = { ...base, num_recursions: 3 }
const expert: ModelConfig = { ...recursive, router: { type: 'expert_choice' } }
const token: ModelConfig = { ...recursive, router: { type: 'token_choice' } }

/** Tokens in a block of the engine's cache. */
const BLOCK = 16

/** Bytes that one sequence holds just before its last token, the tokens that it holds, and how many ran 1..N recursions. */
async function measure(config: ModelConfig) {
  await using model = await Model.create(config, { device: 'cpu', dtype: 'float32', seed: 5 })
  await using engine = new Engine(model, { prefixCache: false })
  const prompt = Int32Array.from({ length: 1500 }, (_, i) => (i * i + 7 * i) % 48)
  let stats = engine.stats()
  for await (const _ of engine.generate(prompt, { maxTokens: 100, seed: 1 })) {
    const now = engine.stats()
    if (now.running > 0) stats = now
  }
  const depths = stats.depthHistogram
  return { bytes: stats.kvBytesUsed, depths, tokens: depths.reduce((sum, count) => sum + count, 0) }
}

it.each<[string, ModelConfig]>([
  ['vanilla', base],
  ['recursive', recursive],
  ['recursive, shared', { ...recursive, kv_cache: 'shared' }],
  ['recursive, sequence', { ...recursive, num_hidden_layers: 9, sharing: 'sequence' }],
  ['expert choice', expert],
  ['expert choice, shared', { ...expert, kv_cache: 'shared' }],
  ['expert choice, hybrid', { ...expert, kv_cache: 'hybrid' }],
  ['token choice', token],
  ['token choice, shared', { ...token, kv_cache: 'shared' }],
])('kvBytesPerToken is what an engine holds: %s', async (_, config) => {
  const { bytes, depths, tokens } = await measure(config)
  expect(tokens).toBeGreaterThan(1500)
  // The same model with the share of tokens that ran each recursion here as its capacities.
  const ran = depths.map((_, r) => depths.slice(r).reduce((sum, count) => sum + count, 0) / tokens)
  const router = config.router ? ({ type: 'expert_choice', capacities: ran } as const) : null
  const resolved = resolveConfig({ ...config, router })
  const claimed = tokens * kvBytesPerToken(resolved, 'float32')
  // Every layer pass may hold one block that is not full, and the token that comes next.
  const slack = (BLOCK + 1) * resolved.num_hidden_layers * 2 * resolved.num_key_value_heads * resolved.head_dim * 4
  expect(bytes).toBeGreaterThan(claimed - slack)
  expect(bytes).toBeLessThan(claimed + slack)
  expect(slack).toBeLessThan(0.05 * claimed)
})
