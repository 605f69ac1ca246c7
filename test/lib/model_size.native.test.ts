// Parameters, KV bytes and FLOPs per token against the ratios of docs/model.md section 5, counts worked out by hand, and what
// an engine holds. The addon must have been built.
import { describe, expect, it, vi } from 'vitest'
import { type ModelConfig, resolveConfig } from '../../lib/config.js'
import { resolveConfigFile } from '../../lib/config_file.js'
import { Engine } from '../../lib/engine.js'
import { Model } from '../../lib/model.js'
import { flopsPerToken, kvBytesPerToken, parameterCount } from '../../lib/model_size.js'
import { presets } from '../../lib/presets.js'
import { published } from './published_configs.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const all = { ...presets['360M-mor-3'], sharing: 'cycle', num_hidden_layers: 30 } as const
const vanilla = resolveConfig({ ...presets['360M'], num_hidden_layers: 30 })

/** A model of recursion blocks only, so that ratios to vanilla are those of the table. */
function blocksOnly(recursions: number, kvCache: 'recursion_wise' | 'shared' | 'hybrid') {
  return resolveConfig({ ...all, num_recursions: recursions, kv_cache: kvCache })
}

describe('kvBytesPerToken', () => {
  it('is 2 * heads * head_dim * bytes per vanilla layer', () => {
    expect(kvBytesPerToken(resolveConfig(presets['135M']), 'bfloat16')).toBe(30 * 2 * 3 * 64 * 2)
    expect(kvBytesPerToken(resolveConfig(presets['135M']), 'float32')).toBe(30 * 2 * 3 * 64 * 4)
  })

  it.each([2, 3])('is (N+1)/2N of vanilla recursion-wise and hybrid, 1/N shared, N = %i', (n) => {
    const reference = kvBytesPerToken(vanilla, 'bfloat16')
    expect(kvBytesPerToken(blocksOnly(n, 'recursion_wise'), 'bfloat16') / reference).toBeCloseTo((n + 1) / (2 * n), 12)
    expect(kvBytesPerToken(blocksOnly(n, 'shared'), 'bfloat16') / reference).toBeCloseTo(1 / n, 12)
    expect(kvBytesPerToken(blocksOnly(n, 'hybrid'), 'bfloat16') / reference).toBeCloseTo((n + 1) / (2 * n), 12)
  })

  it('adds the unshared layers, which cache every token, and keeps every recursion of a recursive model', () => {
    const layer = 2 * 5 * 64 * 2
    expect(kvBytesPerToken(resolveConfig(presets['360M-mor-3']), 'bfloat16')).toBeCloseTo(layer * (2 + 10 * 2), 6)
    expect(kvBytesPerToken(resolveConfig(presets['360M-recursive-3']), 'bfloat16')).toBe(layer * 32)
  })

  it('follows explicit capacities', () => {
    const router = { type: 'expert_choice', capacities: [1, 0.5, 0.25] }
    const config = resolveConfig({ ...presets['360M-mor-3'], router })
    expect(kvBytesPerToken(config, 'bfloat16')).toBe(2 * 5 * 64 * 2 * (2 + 10 * 1.75))
  })
})

describe('flopsPerToken', () => {
  it('is two per matrix parameter, attention and head for a vanilla model', () => {
    const config = resolveConfig(presets['135M'])
    const count = parameterCount(config)
    const flops = flopsPerToken(config, 2048)
    expect(flops.layers).toBe(2 * (count.layers - 30 * 2 * 576))
    expect(flops.attention).toBe(30 * 2 * 2048 * 576)
    expect(flops.head).toBe(2 * 49152 * 576)
    expect(flops.router).toBe(0)
    expect(flops.forward).toBe(flops.layers + flops.attention + flops.head)
    expect(flops.training).toBe(3 * flops.forward)
  })

  it('equals vanilla of the same effective depth for a recursive model', () => {
    const recursive = resolveConfig(presets['360M-recursive-3'])
    expect(flopsPerToken(recursive, 1024)).toEqual(flopsPerToken(resolveConfig(presets['360M']), 1024))
  })

  it.each([2, 3])('scales attention by (k/T)^2 recursion-wise and k/T shared, N = %i', (n) => {
    const reference = flopsPerToken(vanilla, 2048).attention / n
    const fractions = Array.from({ length: n }, (_, r) => (n - r) / n)
    const squares = fractions.reduce((sum, f) => sum + f * f, 0)
    const linear = fractions.reduce((sum, f) => sum + f, 0)
    expect(flopsPerToken(blocksOnly(n, 'recursion_wise'), 2048).attention / reference).toBeCloseTo(squares, 12)
    expect(flopsPerToken(blocksOnly(n, 'shared'), 2048).attention / reference).toBeCloseTo(linear, 12)
    expect(flopsPerToken(blocksOnly(n, 'hybrid'), 2048).attention / reference).toBeCloseTo(linear, 12)
  })

  it('skips the K/V projections of later recursions with shared KV, and only those', () => {
    const keyValue = 2 * 2 * 960 * 5 * 64
    const hybrid = flopsPerToken(blocksOnly(3, 'hybrid'), 2048).layers
    const shared = flopsPerToken(blocksOnly(3, 'shared'), 2048).layers
    expect(hybrid - shared).toBeCloseTo(10 * keyValue * (2 / 3 + 1 / 3), 0)
  })

  it('counts a router over the tokens that enter it', () => {
    const linear = flopsPerToken(resolveConfig(presets['360M-mor-3']), 2048)
    expect(linear.router).toBeCloseTo(2 * 960 * (1 + 1 + 2 / 3), 6)
    const mlp = { type: 'expert_choice', architecture: 'mlp' }
    const config = resolveConfig({ ...presets['360M-mor-3'], router: mlp })
    expect(flopsPerToken(config, 2048).router).toBeCloseTo(2 * (2 * 960 * 960 + 2 * 960) * (1 + 1 + 2 / 3), 3)
    const token = resolveConfig({ ...presets['360M-mor-3'], router: { type: 'token_choice' } })
    expect(flopsPerToken(token, 2048).router).toBe(2 * 960 * 3)
  })
})

describe('parameterCount of routers', () => {
  const routers = (router: object) => parameterCount(resolveConfig({ ...presets['360M-mor-3'], router })).routers
  it('follows the shapes of docs/model.md section 9', () => {
    const d = 960
    expect(routers({ type: 'expert_choice' })).toBe(3 * d)
    expect(routers({ type: 'expert_choice', auxiliary_router: true })).toBe(6 * d)
    expect(routers({ type: 'expert_choice', architecture: 'mlp' })).toBe(3 * (2 * d * d + 2 * d))
    expect(routers({ type: 'token_choice' })).toBe(3 * d)
    expect(routers({ type: 'token_choice', architecture: 'mlp' })).toBe(2 * d * d + 3 * 2 * d)
  })
})

it.each([
  ['Llama-3.2-1B', 1_235_814_400],
  ['Mistral-7B-v0.3', 7_248_023_552],
  ['Qwen2.5-0.5B', 494_032_768],
  ['Qwen3-0.6B', 596_049_920],
] as const)('counts the parameters of %s, biases and norms of heads included', (name, total) => {
  expect(parameterCount(resolveConfigFile(published[name], name)).total).toBe(total)
})

it('counts an untied output projection', () => {
  const config = resolveConfig({ ...presets['135M'], tie_word_embeddings: false })
  expect(parameterCount(config).total).toBe(134_515_008 + 49152 * 576)
})

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
