// Model folders both ways: ours, plain Hugging Face Llama, sharded, broken; and saves that fail half-way.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Model } from '../../lib/model.js'
import { buildSafetensorsHeader, readSafetensorsFile, type TensorInfo } from '../../lib/safetensors.js'
import { FakeAddon } from './fake_addon.js'
import { nativeError } from './fake_tensors.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))

let folder: string
beforeEach(() => {
  addon = new FakeAddon()
  folder = mkdtempSync(join(tmpdir(), 'mor-checkpoint-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const vanilla: ModelConfig = {
  vocab_size: 16,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
}
const mor: ModelConfig = { ...vanilla, num_hidden_layers: 5, num_recursions: 3, router: { type: 'expert_choice' } }

const weightsPath = () => join(folder, 'model.safetensors')
const configPath = () => join(folder, 'config.json')
const values = (index = 0) => addon.models[index]!.tensors.map((tensor) => [...tensor.values])

/** Writes tensors of zeros with the names, shapes and dtypes given. */
function writeZeros(path: string, tensors: TensorInfo[]): void {
  const header = buildSafetensorsHeader(tensors)
  const size = (tensor: TensorInfo) => tensor.shape.reduce((product, n) => product * n, tensor.dtype === 'F32' ? 4 : 2)
  writeFileSync(path, Buffer.concat([header, Buffer.alloc(tensors.reduce((sum, tensor) => sum + size(tensor), 0))]))
}

async function tableOf(config: ModelConfig): Promise<TensorInfo[]> {
  const model = await Model.create(config)
  const table = addon.models
    .at(-1)!
    .parameters()
    .map((tensor) => ({ ...tensor, dtype: 'F32' as const }))
  await model.dispose()
  addon.models.length = 0
  return table
}

describe('save and load', () => {
  it.each([
    ['vanilla', vanilla, 'float32'],
    ['vanilla', vanilla, 'bfloat16'],
    ['mor', mor, 'float32'],
    ['recursive', { ...mor, router: null, sharing: 'middle_sequence' }, 'float32'],
    ['token-choice', { ...mor, router: { type: 'token_choice' }, sharing: 'cycle', num_hidden_layers: 6 }, 'bfloat16'],
    ['untied', { ...vanilla, tie_word_embeddings: false }, 'float32'],
    ['Qwen2', { ...vanilla, qkv_bias: true }, 'bfloat16'],
    ['Qwen3', { ...vanilla, qk_norm: true, head_dim: 6, rope_scaling: { rope_type: 'linear', factor: 2 } }, 'float32'],
    ['bias and norms', { ...mor, qkv_bias: true, qk_norm: true }, 'float32'],
  ] as const)('%s in %3$s comes back bit for bit, configuration included', async (_, config, dtype) => {
    const model = await Model.create(config as ModelConfig, { dtype, seed: 5 })
    await model.save(folder)
    const loaded = await Model.load(folder, { dtype })
    expect(loaded.config).toEqual(model.config)
    expect(values(1)).toEqual(values(0))
    const file = await readSafetensorsFile(weightsPath())
    expect(new Set(file.tensors.map((tensor) => tensor.dtype))).toEqual(new Set([dtype === 'float32' ? 'F32' : 'BF16']))
  })

  it('keeps the loss-free balancing bias in float32 beside bfloat16 weights', async () => {
    const router = { type: 'token_choice', balancing: 'loss_free' } as const
    const model = await Model.create({ ...mor, num_hidden_layers: 5, router }, { dtype: 'bfloat16' })
    const bias = (index: number) => addon.models[index]!.tensors.find(({ name }) => name.endsWith('balancing_bias'))!
    bias(0).values.set([0.001, -0.002, 0.003])
    await model.save(folder)
    await Model.load(folder, { dtype: 'bfloat16' })
    expect([...bias(1).values]).toEqual([0.001, -0.002, 0.003].map(Math.fround))
  })

  it('writes config.json with the keys of Hugging Face Llama for vanilla, and ours for the rest', async () => {
    await (await Model.create({ ...vanilla, eos_token_id: 2 })).save(folder)
    const llama = JSON.parse(readFileSync(configPath(), 'utf8'))
    expect(llama).toMatchObject({
      model_type: 'llama',
      architectures: ['LlamaForCausalLM'],
      torch_dtype: 'bfloat16',
      eos_token_id: 2,
    })
    expect(llama).not.toHaveProperty('num_recursions')
    await (await Model.create(mor)).save(folder)
    const ours = JSON.parse(readFileSync(configPath(), 'utf8'))
    expect(ours).toMatchObject({
      model_type: 'mor',
      num_hidden_layers: 5,
      num_recursions: 3,
      sharing: 'middle_cycle',
      kv_cache: 'recursion_wise',
      router: { type: 'expert_choice', alpha: 0.1, auxiliary_loss_coefficient: 0.001 },
    })
    expect(ours.router).not.toHaveProperty('capacities')
  })
})

describe('plain Hugging Face Llama folders', () => {
  beforeEach(() => {
    writeFileSync(
      configPath(),
      JSON.stringify({
        ...vanilla,
        model_type: 'llama',
        hidden_act: 'silu',
        tie_word_embeddings: true,
        rms_norm_eps: 1e-5,
      }),
    )
  })

  it('load with a stored copy of the tied output projection and rotary frequencies', async () => {
    const table = await tableOf(vanilla)
    const extra: TensorInfo[] = [
      { name: 'lm_head.weight', shape: [16, 8], dtype: 'F32' },
      { name: 'model.layers.0.self_attn.rotary_emb.inv_freq', shape: [2], dtype: 'F32' },
    ]
    writeZeros(weightsPath(), [...table, ...extra])
    await expect(Model.load(folder)).resolves.toBeInstanceOf(Model)
  })

  it('load whatever else config.json says of tokenizer, training and tools', async () => {
    const file = JSON.parse(readFileSync(configPath(), 'utf8'))
    const others = { tokenizer_class: 'LlamaTokenizer', sliding_window: null, unsloth_version: '2025.1', auto_map: {} }
    writeFileSync(configPath(), JSON.stringify({ ...file, ...others, layer_types: ['full_attention'] }))
    writeZeros(weightsPath(), await tableOf(vanilla))
    await expect(Model.load(folder)).resolves.toBeInstanceOf(Model)
  })

  it('take the defaults of Hugging Face for keys left out', async () => {
    writeFileSync(configPath(), JSON.stringify({ ...vanilla, model_type: 'llama' }))
    writeZeros(weightsPath(), await tableOf({ ...vanilla, tie_word_embeddings: false }))
    const model = await Model.load(folder)
    expect(model.config).toMatchObject({ rms_norm_eps: 1e-6, tie_word_embeddings: false })
  })

  it('load from shards', async () => {
    const table = await tableOf(vanilla)
    const source = await Model.create(vanilla, { dtype: 'float32', seed: 9 })
    await source.save(folder)
    const whole = await readSafetensorsFile(weightsPath())
    const bytes = readFileSync(weightsPath())
    rmSync(weightsPath())
    const weightMap: Record<string, string> = {}
    for (const [shard, part] of [table.slice(0, 7), table.slice(7)].entries()) {
      const name = `model-0000${shard + 1}-of-00002.safetensors`
      const data = part.map((tensor) => {
        weightMap[tensor.name] = name
        const entry = whole.tensors.find((candidate) => candidate.name === tensor.name)!
        return bytes.subarray(entry.offset, entry.offset + entry.bytes)
      })
      writeFileSync(join(folder, name), Buffer.concat([buildSafetensorsHeader(part), ...data]))
    }
    writeFileSync(`${weightsPath()}.index.json`, JSON.stringify({ metadata: {}, weight_map: weightMap }))
    await Model.load(folder, { dtype: 'float32' })
    expect(values(1)).toEqual(values(0))

    rmSync(join(folder, 'model-00002-of-00002.safetensors'))
    await expect(Model.load(folder)).rejects.toMatchObject({
      code: 'CHECKPOINT_MISSING',
      message: expect.stringMatching(/1 of 2 shards missing in .*: model-00002-of-00002.safetensors/),
    })
  })

  it('refuse an index that points outside the folder or disagrees with its shards', async () => {
    const table = await tableOf(vanilla)
    writeZeros(join(folder, 'one.safetensors'), table)
    const index = (weightMap: unknown) =>
      writeFileSync(`${weightsPath()}.index.json`, JSON.stringify({ weight_map: weightMap }))
    const all = Object.fromEntries(table.map(({ name }) => [name, 'one.safetensors']))
    const failsWith = (message: RegExp) =>
      expect(Model.load(folder)).rejects.toMatchObject({
        code: 'CHECKPOINT_INVALID',
        message: expect.stringMatching(message),
      })
    index({ ...all, 'model.norm.weight': '../one.safetensors' })
    await failsWith(/weight_map\["model.norm.weight"\] is "..\/one.safetensors"; it must be the name of a file/)
    index({ ...all, 'model.norm.weight': 3 })
    await failsWith(/is 3; it must be the name/)
    index({ ...all, ghost: 'one.safetensors' })
    await failsWith(/puts "ghost" into .*one.safetensors; it is not there/)
    const { 'model.norm.weight': _, ...fewer } = all
    index(fewer)
    await failsWith(/holds "model.norm.weight", which .* puts elsewhere/)
    index([])
    await failsWith(/weight_map is \[\]; it must be an object/)
  })

  it.each<[string, (table: TensorInfo[]) => TensorInfo[], RegExp]>([
    ['a missing tensor', (table) => table.slice(1), /1 missing \(model.embed_tokens.weight\)/],
    [
      'an unexpected tensor',
      (table) => [...table, { name: 'extra', shape: [1], dtype: 'F32' }],
      /1 unexpected \(extra\)/,
    ],
    [
      'a bias',
      (table) => [...table, { name: 'model.layers.0.self_attn.q_proj.bias', shape: [8], dtype: 'F32' }],
      /unexpected .*q_proj.bias\); by its config.json the model has no such biases/,
    ],
    [
      'a wrong shape',
      (table) => table.map((tensor, i) => (i === 0 ? { ...tensor, shape: [8, 16] } : tensor)),
      /1 unfit \("model.embed_tokens.weight" is \[8,16\] and must be \[16,8\]\)/,
    ],
    [
      'a dtype that is no float of ours',
      (table) => table.map((tensor, i) => (i === 0 ? { ...tensor, dtype: 'I16' as const } : tensor)),
      /"model.embed_tokens.weight" is I16 and must be F32, BF16 or F16/,
    ],
    ['everything missing', () => [], /20 missing \(model.embed_tokens.weight, .*, …\)/],
  ])('refuse %s, and give the memory back', async (_, change, message) => {
    writeZeros(weightsPath(), change(await tableOf(vanilla)))
    await expect(Model.load(folder)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(message),
    })
    expect(addon.models[0]!.disposed).toBe(true)
  })
})

describe('folders that are not there or not whole', () => {
  it.each<[string, () => void, string, RegExp]>([
    [
      'no folder',
      () => rmSync(folder, { recursive: true }),
      'CHECKPOINT_MISSING',
      /config.json is missing: is this the folder/,
    ],
    ['no config', () => undefined, 'CHECKPOINT_MISSING', /config.json is missing/],
    ['a broken config', () => writeFileSync(configPath(), '{'), 'CHECKPOINT_INVALID', /config.json is not JSON/],
    [
      'a wrong config',
      () => writeFileSync(configPath(), '{"vocab_size": 1}'),
      'INVALID_CONFIG',
      /config.json: hidden_size is missing/,
    ],
    [
      'no weights',
      () => writeFileSync(configPath(), JSON.stringify(vanilla)),
      'CHECKPOINT_MISSING',
      /no weights: neither .*model.safetensors nor/,
    ],
    [
      'pickled weights',
      () => {
        writeFileSync(configPath(), JSON.stringify(vanilla))
        writeFileSync(join(folder, 'pytorch_model.bin'), '')
      },
      'CHECKPOINT_MISSING',
      /pytorch_model.bin is not read: save the model as safetensors first/,
    ],
  ])('%s', async (_, prepare, code, message) => {
    prepare()
    await expect(Model.load(folder)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    expect(addon.models).toHaveLength(0)
  })
})

describe('a save that fails', () => {
  const full = () =>
    Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' })

  it('leaves the previous checkpoint whole and nothing else behind', async () => {
    const model = await Model.create(vanilla, { seed: 1 })
    await model.save(folder)
    writeFileSync(join(folder, 'tokenizer.json'), '{}')
    const before = readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))])
    addon.nextWriteError = full()
    const second = await Model.create(mor, { seed: 2 })
    await expect(second.save(folder)).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringMatching(/free some space/),
    })
    expect(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))])).toEqual(before)
  })

  it('removes a folder it has made, and carries the code of a native error', async () => {
    addon.nextWriteError = nativeError('IO_ERROR', 'write: No space left on device')
    const target = join(folder, 'new')
    await expect((await Model.create(vanilla)).save(target)).rejects.toMatchObject({ code: 'IO_ERROR' })
    expect(readdirSync(folder)).toEqual([])
  })

  it('reports a folder that cannot be made', async () => {
    writeFileSync(join(folder, 'file'), '')
    await expect((await Model.create(vanilla)).save(join(folder, 'file', 'x'))).rejects.toMatchObject({
      code: 'IO_ERROR',
    })
  })
})
