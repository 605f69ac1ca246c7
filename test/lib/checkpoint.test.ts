// Model folders both ways, with what lies beside the weights; and saves that fail half-way.
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Model } from '../../lib/model.js'
import { readSafetensorsFile } from '../../lib/safetensors.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { Trainer } from '../../lib/trainer.js'
import { FakeAddon } from './fake_addon.js'
import { nativeError } from './fake_tensors.js'
import { mor, vanilla } from './tiny_checkpoint.js'
import { tokenizerFolder } from './tokenizer/families.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))

let folder: string
beforeEach(() => {
  addon = new FakeAddon()
  folder = mkdtempSync(join(tmpdir(), 'mor-checkpoint-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const weightsPath = () => join(folder, 'model.safetensors')
const configPath = () => join(folder, 'config.json')
const values = (index = 0) => addon.models[index]!.tensors.map((tensor) => [...tensor.values])

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

  it.each([
    ['balancing_bias', { type: 'token_choice', balancing: 'loss_free' }],
    ['thresholds', { type: 'expert_choice', selection: 'threshold' }],
  ] as const)('keeps %s in float32 beside bfloat16 weights', async (tensor, router) => {
    const model = await Model.create({ ...mor, num_hidden_layers: 5, router }, { dtype: 'bfloat16' })
    const bias = (index: number) => addon.models[index]!.tensors.find(({ name }) => name.endsWith(tensor))!
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
    expect(ours.router).toMatchObject({ selection: 'threshold', threshold_momentum: 0.5 })
    await (await Model.create({ ...mor, router: { type: 'expert_choice', selection: 'topk' } })).save(folder)
    const topk = JSON.parse(readFileSync(configPath(), 'utf8'))
    expect(topk.router).toMatchObject({ selection: 'topk' })
    expect(topk.router).not.toHaveProperty('threshold_momentum')
  })
})

describe('generation_config.json', () => {
  const path = () => join(folder, 'generation_config.json')
  const content = () => JSON.parse(readFileSync(path(), 'utf8'))

  it('says the end tokens of the model that is saved, whatever was there', async () => {
    writeFileSync(path(), JSON.stringify({ eos_token_id: 3, temperature: 0.1 }))
    await (await Model.create({ ...mor, eos_token_id: [4, 5] })).save(folder)
    expect(content()).toEqual({ bos_token_id: null, eos_token_id: [4, 5] })
    expect((await Model.load(folder)).config.eos_token_id).toEqual([4, 5])
  })

  it('comes along with its other values, from a model and from a trainer', async () => {
    await (await Model.create({ ...vanilla, eos_token_id: 4 })).save(folder)
    writeFileSync(path(), JSON.stringify({ eos_token_id: [4, 6], temperature: 0.6 }))
    const model = await Model.load(folder)
    expect(model.config.eos_token_id).toEqual([4, 6])
    rmSync(path())
    await model.save(folder)
    const expected = { bos_token_id: null, eos_token_id: [4, 6], temperature: 0.6 }
    expect(content()).toEqual(expected)
    rmSync(path())
    await new Trainer(model, { learningRate: 0 }).save(folder)
    expect(content()).toEqual(expected)
    expect(JSON.parse(readFileSync(configPath(), 'utf8')).eos_token_id).toEqual([4, 6])
  })
})

describe('a tokenizer', () => {
  const fingerprint = async () => (await Tokenizer.load(folder)).fingerprint

  it('that the model was created with is saved beside it, and gives begin and end tokens', async () => {
    const tokenizer = Tokenizer.byteLevel()
    const bytes = { ...vanilla, vocab_size: 300 }
    const model = await Model.create(bytes, { tokenizer })
    expect(model.config).toMatchObject({ bos_token_id: null, eos_token_id: 256 })
    await model.save(folder)
    expect(await Tokenizer.load(folder)).toBe(tokenizer)
    expect((await Model.create({ ...bytes, eos_token_id: null }, { tokenizer })).config.eos_token_id).toBeNull()
  })

  it('comes along where a model is loaded and saved elsewhere, and with a trainer', async () => {
    const llama = await Tokenizer.load(
      tokenizerFolder('llama', {}, { 'tokenizer_config.json': { add_bos_token: false } }),
    )
    const model = await Model.create({ ...vanilla, vocab_size: 400 }, { tokenizer: llama })
    await new Trainer(model, { learningRate: 0 }).save(folder)
    expect(await fingerprint()).toBe(llama.fingerprint)
    const source = folder
    folder = join(source, 'elsewhere')
    await (await Model.load(source)).save(folder)
    expect(await fingerprint()).toBe(llama.fingerprint)
    expect(existsSync(join(folder, 'tokenizer_config.json'))).toBe(true)
    folder = source
  })

  it('is written aside and renamed as one with the weights, and replaces the one before', async () => {
    const llama = await Tokenizer.load(tokenizerFolder('llama'))
    const model = await Model.create({ ...vanilla, vocab_size: 400 }, { tokenizer: llama })
    const save = vi.spyOn(addon, 'save')
    for (const target of [model, new Trainer(model, { learningRate: 0 })]) {
      writeFileSync(join(folder, 'chat_template.jinja'), 'of another one')
      await target.save(folder)
      expect(save.mock.lastCall![1].map(({ name }) => name)).toContain('tokenizer.json')
      expect(await fingerprint()).toBe(llama.fingerprint)
      expect(existsSync(join(folder, 'chat_template.jinja'))).toBe(false)
    }
  })

  it('may be given in place of that beside the weights', async () => {
    const bytes = { ...vanilla, vocab_size: 400 }
    await (await Model.create(bytes, { tokenizer: Tokenizer.byteLevel() })).save(folder)
    const llama = await Tokenizer.load(tokenizerFolder('llama'))
    const model = await Model.load(folder, { tokenizer: llama })
    expect(model.text.tokenizer).toBe(llama)
    await model.save(folder)
    expect(await fingerprint()).toBe(llama.fingerprint)
    await (await Model.create(vanilla)).save(folder)
    await expect(Model.load(folder, { tokenizer: llama })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/^Model.load: the tokenizer .* but vocab_size of the model is 16/),
    })
  })

  it('in the folder stays where the model has none', async () => {
    await Tokenizer.byteLevel().save(folder)
    await (await Model.create(vanilla)).save(folder)
    expect(await fingerprint()).toBe(Tokenizer.byteLevel().fingerprint)
  })

  it('must fit the model', async () => {
    await expect(Model.create(vanilla, { tokenizer: Tokenizer.byteLevel() })).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringMatching(/the tokenizer byte-level has 257 ids, but vocab_size of the model is 16/),
    })
    await expect(Model.create(vanilla, { tokenizer: 'byte-level' as never })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/tokenizer is "byte-level"; give Tokenizer.byteLevel\(\)/),
    })
    expect(addon.models).toHaveLength(0)
  })
})

describe('files with a byte order mark', () => {
  it('are read like those without', async () => {
    const model = await Model.create({ ...vanilla, eos_token_id: 3 })
    await new Trainer(model, { learningRate: 0.25 }).save(folder)
    const table = (await readSafetensorsFile(weightsPath())).tensors.map(({ name }) => [name, 'one.safetensors'])
    cpSync(weightsPath(), join(folder, 'one.safetensors'))
    rmSync(weightsPath())
    writeFileSync(`${weightsPath()}.index.json`, JSON.stringify({ weight_map: Object.fromEntries(table) }))
    const files = readdirSync(folder).filter((name) => name.endsWith('.json'))
    expect(files.sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors.index.json',
      'trainer.json',
    ])
    for (const name of files) {
      const path = join(folder, name)
      writeFileSync(path, `\ufeff${readFileSync(path, 'utf8')}`)
    }
    expect((await Model.load(folder)).config).toEqual(model.config)
    expect((await Trainer.resume(folder)).options.learningRate).toBe(0.25)
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
