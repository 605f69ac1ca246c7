// Plain folders of Hugging Face: their config.json, their weights in one file or in shards, and what does not fit together.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Model } from '../../lib/model.js'
import { buildSafetensorsHeader, readSafetensorsFile, type TensorInfo } from '../../lib/safetensors.js'
import { Trainer } from '../../lib/trainer.js'
import { FakeAddon } from './fake_addon.js'
import { vanilla } from './tiny_checkpoint.js'

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
