// Model folders both ways: ours, plain Hugging Face Llama, sharded, broken; and saves that fail half-way.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Model } from '../../lib/model.js'
import { buildSafetensorsHeader, readSafetensorsFile, type TensorInfo } from '../../lib/safetensors.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { Trainer } from '../../lib/trainer.js'
import { FakeAddon } from './fake_addon.js'
import { nativeError } from './fake_tensors.js'
import { tokenizerFolder } from './tokenizer/families.js'

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
    expect(ours.router).toMatchObject({ selection: 'threshold', threshold_momentum: 0.9 })
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

  it('are refused where the stored output projection is not the embedding, by the names of both', async () => {
    const table = await tableOf(vanilla)
    const projection: TensorInfo = { name: 'lm_head.weight', shape: [16, 8], dtype: 'F32' }
    const message =
      /tie_word_embeddings is true, but lm_head.weight differs from model.embed_tokens.weight: set tie_word_embed/
    const refused = { code: 'CHECKPOINT_INVALID', message: expect.stringMatching(message) }
    writeZeros(weightsPath(), [...table, projection])
    const bytes = readFileSync(weightsPath())
    bytes[bytes.length - 1] = 1
    writeFileSync(weightsPath(), bytes)
    await expect(Model.load(folder)).rejects.toMatchObject(refused)
    for (const other of [{ shape: [15, 8] }, { dtype: 'BF16' as const }]) {
      writeZeros(weightsPath(), [...table, { ...projection, ...other }])
      await expect(Model.load(folder)).rejects.toMatchObject(refused)
    }
    const controller = new AbortController()
    writeZeros(weightsPath(), [...table, projection])
    const loading = Model.load(folder, { signal: controller.signal })
    controller.abort()
    await expect(loading).rejects.toMatchObject({ code: 'ABORTED' })
    expect(addon.models.every((model) => model.disposed)).toBe(true)
  })

  it.each<[string, object, RegExp]>([
    [
      'another vocabulary',
      { vocab_size: 17 },
      /is \[16,8\] and must be \[17,8\]\); by its config.json vocab_size is 17, hidden_/,
    ],
    ['more layers', { num_hidden_layers: 3 }, /9 missing .*; by its config.json num_hidden_layers is 3/],
    ['fewer layers', { num_hidden_layers: 1 }, /9 unexpected .*; by its config.json num_hidden_layers is 1/],
    [
      'an output projection',
      { tie_word_embeddings: false },
      /1 missing .*; by its config.json tie_word_embeddings is false/,
    ],
    ['other heads', { head_dim: 6 }, /unfit .*; by its config.json .*num_attention_heads is 2, head_dim is 6/],
    ['norms of heads', { model_type: 'qwen3', head_dim: 4 }, /4 missing .*; by its config.json .*qk_norm is true/],
  ])('say which value of config.json the tensors contradict: %s', async (_, change, message) => {
    writeZeros(weightsPath(), await tableOf(vanilla))
    const file = JSON.parse(readFileSync(configPath(), 'utf8'))
    writeFileSync(configPath(), JSON.stringify({ ...file, ...change }))
    await expect(Model.load(folder)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(message),
    })
  })

  it('warn of shards beside model.safetensors, which counts', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    writeZeros(weightsPath(), await tableOf(vanilla))
    const index = (shard: string) =>
      writeFileSync(`${weightsPath()}.index.json`, JSON.stringify({ weight_map: { 'model.norm.weight': shard } }))
    index('model.safetensors')
    await expect(Model.load(folder)).resolves.toBeInstanceOf(Model)
    expect(warn).not.toHaveBeenCalled()
    index('other.safetensors')
    await expect(Model.load(folder)).resolves.toBeInstanceOf(Model)
    expect(warn.mock.calls).toEqual([
      [
        expect.stringMatching(
          /holds model.safetensors, which counts, and model.safetensors.index.json, which names "other/,
        ),
        { code: 'MOR_CONFIG_CONFLICT' },
      ],
    ])
    warn.mockRestore()
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

  it('are replaced whole where they were in shards', async () => {
    const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    for (const save of [(model: Model) => model, (model: Model) => new Trainer(model, { learningRate: 0 })]) {
      const table = await tableOf(vanilla)
      for (const [i, part] of [table.slice(0, 7), table.slice(7)].entries()) writeZeros(join(folder, shards[i]!), part)
      const weight_map = Object.fromEntries(table.map(({ name }, i) => [name, shards[i < 7 ? 0 : 1]]))
      writeFileSync(`${weightsPath()}.index.json`, JSON.stringify({ weight_map }))
      writeFileSync(join(folder, 'adapter.safetensors'), 'mine')
      rmSync(weightsPath(), { force: true })
      await save(await Model.load(folder)).save(folder)
      const left = readdirSync(folder).filter((name) => name.includes('safetensors') && !name.startsWith('trainer'))
      expect(left.sort()).toEqual(['adapter.safetensors', 'model.safetensors'])
      await expect(Model.load(folder)).resolves.toBeInstanceOf(Model)
    }
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

describe('a file in place of a folder', () => {
  it.each<[string, string | Uint8Array, RegExp]>([
    [
      'model.gguf',
      'GGUF\u0003\u0000\u0000\u0000',
      /model.gguf is a GGUF file, which is not read: give the Hugging Face folder/,
    ],
    ['model.safetensors', buildSafetensorsHeader([]), /is a safetensors file: give the folder that holds it and its/],
    ['config.json', '{}', /config.json is a file: give the folder of the checkpoint, .* perhaps/],
  ])('%s', async (name, content, message) => {
    const path = join(folder, name)
    writeFileSync(path, content)
    const failing = (reason: RegExp) => ({ code: 'CHECKPOINT_INVALID', message: expect.stringMatching(reason) })
    // A whole one is a checkpoint, but none of a training run.
    const loading =
      name === 'model.gguf' ? /model.gguf is a GGUF file that is truncated: .* after its 8 bytes/ : message
    await expect(Model.load(path)).rejects.toMatchObject(failing(loading))
    await expect(Trainer.resume(path)).rejects.toMatchObject(failing(message))
  })

  it('is told where the file stands in for weights', async () => {
    await (await Model.create(vanilla)).save(folder)
    writeFileSync(weightsPath(), 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1000\n')
    await expect(Model.load(folder)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(/model.safetensors is a pointer of Git LFS.*git lfs pull/),
    })
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
    [
      'a GGUF file alone',
      () => writeFileSync(join(folder, 'model-Q8_0.gguf'), ''),
      'CHECKPOINT_MISSING',
      /config.json is missing: the folder holds model-Q8_0.gguf: give that file itself/,
    ],
    [
      'an adapter',
      () => writeFileSync(join(folder, 'adapter_config.json'), '{}'),
      'CHECKPOINT_MISSING',
      /the folder holds an adapter, which is no whole model/,
    ],
    [
      'a cache',
      () => mkdirSync(join(folder, 'snapshots')),
      'CHECKPOINT_MISSING',
      /a cache of Hugging Face: give one of the folders/,
    ],
    [
      'nothing',
      () => writeFileSync(configPath(), 'null'),
      'INVALID_CONFIG',
      /config.json is null; it must be an object/,
    ],
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
