// Every architecture on the real addon: a trained model is saved under its model type, loads as the same model, and generates
// what its forward pass says. The addon must have been built.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Engine } from '../../lib/engine.js'
import { Model } from '../../lib/model.js'
import { Trainer } from '../../lib/trainer.js'
import { patternTokens } from './addon_support.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const base: ModelConfig = {
  vocab_size: 48,
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 64,
}
const llama3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 16,
} as const
const options = { device: 'cpu', dtype: 'float32' } as const
const prompt = patternTokens(20)

const folder = mkdtempSync(join(tmpdir(), 'mor-architectures-'))
afterAll(() => rmSync(folder, { recursive: true }))

async function lastLogits(model: Model, tokens: ArrayLike<number>): Promise<Float32Array> {
  return (await model.forward([tokens])).logits.slice(-base.vocab_size)
}

describe.each<[string, ModelConfig]>([
  ['llama', { ...base, rope_scaling: llama3 }],
  ['qwen2', { ...base, qkv_bias: true }],
  ['qwen3', { ...base, qk_norm: true, head_dim: 12, rope_scaling: { rope_type: 'linear', factor: 4 } }],
  [
    'mor',
    {
      ...base,
      qkv_bias: true,
      qk_norm: true,
      num_hidden_layers: 5,
      num_recursions: 3,
      router: { type: 'expert_choice' },
    },
  ],
])('%s', (modelType, config) => {
  it('is trained, saved, loaded and generates', async () => {
    await using model = await Model.create(config, { ...options, seed: 3 })
    {
      // Biases and norm weights are the same in every new model.
      await using trainer = new Trainer(model, { learningRate: 0.05 })
      for (let i = 0; i < 3; i++) await trainer.step([patternTokens(33)])
    }
    await model.save(folder)
    expect(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')).model_type).toBe(modelType)
    await using loaded = await Model.load(folder, options)
    expect(loaded.config).toEqual(model.config)
    expect(await lastLogits(loaded, prompt)).toEqual(await lastLogits(model, prompt))

    await using engine = new Engine(loaded)
    const { tokens } = await engine.generate(prompt, { maxTokens: 8, temperature: 0 }).result
    const text = [...prompt]
    for (const token of tokens) {
      const logits = await lastLogits(model, text)
      expect(token).toBe(logits.indexOf(Math.max(...logits)))
      text.push(token)
    }
    expect(tokens).toHaveLength(8)
  })
})

it('every trait changes what a model computes', async () => {
  const traits: Partial<ModelConfig>[] = [
    {},
    { qk_norm: true },
    { rope_scaling: llama3 },
    { rope_scaling: { rope_type: 'linear', factor: 4 } },
  ]
  const logits = []
  for (const trait of traits) {
    await using model = await Model.create({ ...base, ...trait }, { ...options, seed: 3 })
    logits.push([...(await lastLogits(model, prompt))].join())
  }
  expect(new Set(logits).size).toBe(traits.length)
})
