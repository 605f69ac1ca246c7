// `convert` on the real addon: every tensor is what docs/model.md section 10 says, a model with a router starts as the one without
// it does, and the files that belong to a checkpoint come along.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../../lib/config.js'
import { type ConvertOptions, convert } from '../../../lib/convert.js'
import { Model } from '../../../lib/model.js'
import { readSafetensorsFile } from '../../../lib/safetensors.js'
import { Trainer } from '../../../lib/trainer.js'
import { patternTokens } from '../addon_support.js'
import { readTensors } from '../safetensors_values.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const folder = mkdtempSync(join(tmpdir(), 'mor-convert-'))
afterAll(() => rmSync(folder, { recursive: true }))
let made = 0
const nextOutput = () => join(folder, `output-${made++}`)

const base: ModelConfig = {
  vocab_size: 48,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 14,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 64,
  initializer_range: 0.2,
}
const cpu = { device: 'cpu', dtype: 'float32' } as const
const source = (layers: number) => join(folder, `source-${layers}`)

beforeAll(async () => {
  for (const layers of [12, 14]) {
    const config = { ...base, num_hidden_layers: layers, qkv_bias: true, eos_token_id: [3, 4] }
    await using model = await Model.create(config, { ...cpu, seed: layers })
    // Norms and biases are the same in every layer of a new model.
    await using trainer = new Trainer(model, { learningRate: 0.05 })
    for (let i = 0; i < 3; i++) await trainer.step([patternTokens(33)])
    await model.save(source(layers))
  }
})

const weights = (path: string) => readTensors(join(path, 'model.safetensors'))

async function logitsOf(
  path: string,
  routing: 'topk' | 'threshold' = 'threshold',
  dtype = cpu.dtype as 'float32' | 'bfloat16',
) {
  await using model = await Model.load(path, { ...cpu, dtype })
  const { logits, depths } = await model.forward([patternTokens(40)], { routing })
  return { logits, depths }
}

describe.each([2, 3, 4])('N = %i', (recursions) => {
  describe.each(['cycle', 'sequence', 'middle_cycle', 'middle_sequence'] as const)('%s', (sharing) => {
    it.each(['stepwise', 'average', 'lower', 'upper'] as const)('%s: every tensor', async (init) => {
      const depth = sharing.startsWith('middle') ? 14 : 12
      const output = nextOutput()
      const { config, layers } = await convert(source(depth), { output, recursions, sharing, init })
      expect(config).toMatchObject({ num_recursions: recursions, sharing, num_hidden_layers: depth, router: null })
      const [from, to] = [weights(source(depth)), weights(output)]
      await using model = await Model.load(output, cpu)
      expect(model.config).toEqual(config)
      for (const { name, layer } of model.native.parameters()) {
        const names = layer === null ? [name] : layers[layer]!.map((u) => name.replace(/layers\.\d+/, `layers.${u}`))
        const parts = names.map((each) => from(each))
        const mean = Float32Array.from(parts[0]!, (_, i) =>
          Math.fround(parts.reduce((sum, part) => Math.fround(sum + part[i]!), 0) / parts.length),
        )
        expect(to(name), name).toEqual(mean)
      }
    })
  })
})

it('a vanilla model becomes itself, byte for byte', async () => {
  const output = nextOutput()
  await convert(source(12), { output })
  for (const file of ['model.safetensors', 'config.json', 'generation_config.json'])
    expect(readFileSync(join(output, file))).toEqual(readFileSync(join(source(12), file)))
})

it('has the options that it was called with, whatever the caller does with his', async () => {
  const [output, keep] = [nextOutput(), [1, 2]]
  const options: ConvertOptions = { output, layers: 2, keep, dtype: 'bfloat16' }
  const converting = convert(source(12), options)
  keep.pop()
  Object.assign(options, { output: nextOutput(), layers: 3, recursions: 2, dtype: 'float32' })
  const { config, layers } = await converting
  expect({ config, layers }).toMatchObject({ config: { num_recursions: 1 }, layers: [[1], [2]] })
  const { tensors } = await readSafetensorsFile(join(output, 'model.safetensors'))
  expect(new Set(tensors.map(({ dtype }) => dtype))).toEqual(new Set(['BF16']))
})

it('takes the layers that are given', async () => {
  const output = nextOutput()
  const keep = [0, 3, 1, 7, 7, 13]
  const { layers } = await convert(source(14), { output, recursions: 3, keep })
  expect(layers).toEqual(keep.map((layer) => [layer]))
  const [from, to] = [weights(source(14)), weights(output)]
  keep.forEach((layer, u) => {
    const name = (index: number) => `model.layers.${index}.mlp.down_proj.weight`
    expect(to(name(u))).toEqual(from(name(layer)))
  })
})

describe('dtypes', () => {
  it.each([
    ['float16', 'F16'],
    ['bfloat16', 'BF16'],
  ] as const)('%s, and the values are the nearest ones', async (dtype, stored) => {
    const output = nextOutput()
    await convert(source(12), { output, recursions: 2, sharing: 'cycle', dtype })
    expect(JSON.parse(readFileSync(join(output, 'config.json'), 'utf8')).torch_dtype).toBe(dtype)
    const { tensors } = await readSafetensorsFile(join(output, 'model.safetensors'))
    expect(new Set(tensors.map((tensor) => tensor.dtype))).toEqual(new Set([stored]))
    const [exact, rounded] = [
      weights(source(12))('model.embed_tokens.weight'),
      weights(output)('model.embed_tokens.weight'),
    ]
    const unit = dtype === 'float16' ? 2 ** -11 : 2 ** -8
    exact.forEach((value, i) => {
      expect(Math.abs(rounded[i]! - value)).toBeLessThanOrEqual(Math.max(Math.abs(value) * unit, 2 ** -25))
    })
    // What is in that dtype already stays as it is.
    const again = nextOutput()
    const back = nextOutput()
    await convert(source(12), { output: again, dtype })
    await convert(again, { output: back })
    expect(readFileSync(join(back, 'model.safetensors'))).toEqual(readFileSync(join(again, 'model.safetensors')))
  })
})

const largestDifference = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0)

const routers: [string, Omit<ConvertOptions, 'output'>][] = [
  ['expert choice', { router: { type: 'expert_choice' } }],
  ['expert choice, cycle, hybrid', { sharing: 'cycle', kvCache: 'hybrid', router: { type: 'expert_choice' } }],
  ['expert choice, mlp', { router: { type: 'expert_choice', architecture: 'mlp' } }],
  ['expert choice, auxiliary router', { router: { type: 'expert_choice', auxiliary_router: true } }],
  ['token choice', { router: { type: 'token_choice' } }],
  ['token choice, sigmoid, shared', { kvCache: 'shared', router: { type: 'token_choice', activation: 'sigmoid' } }],
  ['token choice, mlp, cycle', { sharing: 'cycle', router: { type: 'token_choice', architecture: 'mlp' } }],
]

describe.each([2, 3, 4])('routers of N = %i', (recursions) => {
  it.each(routers)('%s: the first output and loss are those without it', async (_, options) => {
    const { router, ...others } = options
    const depth = options.sharing === 'cycle' ? 12 : 14
    // N times a third is not 1 in every step of a softmax.
    const exact = recursions !== 3 || router!.type === 'expert_choice'
    const [plain, routed] = [nextOutput(), nextOutput()]
    // Without expert choice there is no hybrid cache; with all tokens active it is what the default is.
    if (others.kvCache === 'hybrid') others.kvCache = 'recursion_wise'
    await convert(source(depth), { output: plain, recursions, ...others })
    await convert(source(depth), { output: routed, recursions, ...options })
    for (const dtype of ['float32', 'bfloat16'] as const) {
      const [expected, found] = [await logitsOf(plain, 'threshold', dtype), await logitsOf(routed, 'threshold', dtype)]
      expect(found.depths).toEqual(expected.depths)
      if (exact) expect(found.logits).toEqual(expected.logits)
      else expect(largestDifference(found.logits, expected.logits)).toBeLessThan(dtype === 'float32' ? 5e-6 : 0.05)
    }
    const options_ = { learningRate: 0.01, weightDecay: 0 }
    await using without = await Model.load(plain, cpu)
    await using model = await Model.load(routed, cpu)
    await using plainTrainer = new Trainer(without, options_)
    await using trainer = new Trainer(model, options_)
    const batch = [patternTokens(33)]
    const first = await trainer.step(batch)
    const { lmLoss } = await plainTrainer.step(batch)
    expect(Math.abs(first.lmLoss - lmLoss)).toBeLessThanOrEqual(exact ? 0 : 1e-6)
    expect(first.depthHistogram.at(-1)).toBe(32)
    // Its weights learn from the first step on.
    const after = nextOutput()
    await model.save(after)
    const names = model.native.parameters().flatMap(({ name, role }) => (role === 'router' ? [name] : []))
    expect(names.length).toBeGreaterThan(0)
    for (const name of names.filter((each) => !each.endsWith('fc1.weight') && !each.includes('auxiliary'))) {
      expect(
        weights(after)(name).some((value) => value !== 0),
        name,
      ).toBe(true)
    }
  })
})

it('a router that is described in full is taken as it is', async () => {
  const output = nextOutput()
  const router = {
    type: 'expert_choice',
    alpha: 0.3,
    gated: 'output',
    capacity_warmup_steps: 0,
    capacities: [1, 0.5, 0.25],
  } as const
  const { config } = await convert(source(14), { output, recursions: 3, router })
  expect(config.router).toMatchObject(router)
})

it.each([
  ['expert_choice', ['alpha', 'gated', 'capacity_warmup_steps']],
  ['token_choice', ['alpha', 'gated', 'balancing']],
] as const)('options of a router of %s that are null or undefined are left out', async (type, keys) => {
  const made = []
  for (const empty of [{}, ...[null, undefined].map((value) => Object.fromEntries(keys.map((key) => [key, value])))]) {
    const { config } = await convert(source(14), {
      output: nextOutput(),
      recursions: 3,
      router: { type, ...empty } as never,
    })
    made.push(config.router)
  }
  expect(made[1]).toEqual(made[0])
  expect(made[2]).toEqual(made[0])
})

it('tokenizer, chat template and what generation_config.json says come along', async () => {
  const output = nextOutput()
  const json = { added_tokens: [{ id: 47, content: '<pad>' }], model: { type: 'WordLevel', vocab: { a: 0, b: 1 } } }
  writeFileSync(join(source(14), 'tokenizer.json'), JSON.stringify(json))
  const files = { 'tokenizer_config.json': '{"add_bos_token":false}', 'chat_template.jinja': '{{ messages }}' }
  for (const [name, content] of Object.entries(files)) writeFileSync(join(source(14), name), content)
  const generation = { bos_token_id: null, eos_token_id: [3, 4], temperature: 0.6 }
  writeFileSync(join(source(14), 'generation_config.json'), JSON.stringify(generation))
  await convert(source(14), { output, recursions: 2 })
  // A tokenizer that is not read here is of use elsewhere.
  const [other, kept] = [nextOutput(), nextOutput()]
  await convert(source(12), { output: other })
  writeFileSync(join(other, 'tokenizer.model'), 'pieces')
  await convert(other, { output: kept, recursions: 2, sharing: 'cycle' })
  expect(readFileSync(join(kept, 'tokenizer.model'), 'utf8')).toBe('pieces')
  for (const name of ['tokenizer.json', ...Object.keys(files)])
    expect(readFileSync(join(output, name)), name).toEqual(readFileSync(join(source(14), name)))
  expect(JSON.parse(readFileSync(join(output, 'generation_config.json'), 'utf8'))).toEqual(generation)
  expect(existsSync(join(output, 'trainer.json'))).toBe(false)
})
