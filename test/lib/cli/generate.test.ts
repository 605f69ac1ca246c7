// The generate command on a stand-in addon that counts upwards: options reach the engine, output is as promised.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { type GenerateCommandOptions, generate, promptIds } from '../../../lib/cli/generate.js'
import { Model } from '../../../lib/model.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { FakeAddon } from '../fake_addon.js'
import { tokenizerFolder } from '../tokenizer/families.js'
import { RecordingStream } from './recording_stream.js'

let addon: FakeAddon
vi.mock('../../../lib/native_loader.js', () => ({ loadNative: () => addon }))

const config = {
  vocab_size: 257,
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  num_recursions: 3,
  eos_token_id: 256,
  router: { type: 'expert_choice' as const },
}
let folder: string
beforeEach(async () => {
  addon = new FakeAddon()
  folder = mkdtempSync(join(tmpdir(), 'mor-generate-'))
  await using model = await Model.create(config)
  await model.save(folder)
  await Tokenizer.byteLevel().save(folder)
})

const defaults: GenerateCommandOptions = {
  prompt: 'A',
  maxTokens: 5,
  temperature: 0.5,
  topK: 7,
  topP: 0.9,
  device: 'auto',
  dtype: 'bfloat16',
  threads: 0,
}

async function run(changes: Partial<GenerateCommandOptions> = {}, { terminal = false } = {}) {
  const stream = new RecordingStream(terminal)
  const reason = await generate(folder, { ...defaults, ...changes }, stream, new AbortController().signal)
  return { reason, stream }
}

describe('generate', () => {
  it('writes a JSON object per token with its depth, and one for all', async () => {
    const { reason, stream } = await run()
    expect(reason).toBe('length')
    expect(stream.records.slice(0, 2)).toEqual([
      { type: 'token', token: 66, depth: 1, logprob: -0.5, text: 'B' },
      { type: 'token', token: 67, depth: 2, logprob: -0.5, text: 'C' },
    ])
    expect(stream.records.at(-1)).toMatchObject({
      type: 'generation',
      prompt: 'A',
      text: 'BCDEF',
      finishReason: 'length',
    })
    expect(addon.models.every((model) => model.disposed)).toBe(true)
  })

  it('shows text on a terminal', async () => {
    const { stream } = await run({ depths: true }, { terminal: true })
    const plain = stripVTControlCharacters(stream.text)
    expect(plain).toMatch(/^ABCDEF\n\ndepth 1 2 3 {2}5 tokens.*mean depth 1\.80\n$/)
    expect((await run({}, { terminal: true })).stream.text).not.toContain('depth')
  })

  it('keeps the space between prompt and text', async () => {
    await using model = await Model.create({ ...config, vocab_size: 320 })
    await model.save(folder)
    await (await Tokenizer.load(tokenizerFolder('llama'))).save(folder)
    const { stream } = await run({ prompt: 'there', maxTokens: 3 })
    expect(stream.records.map((record) => record.text)).toEqual([' w', ' wa', ' was', ' w wa was'])
    const terminal = await run({ prompt: 'there', maxTokens: 3 }, { terminal: true })
    expect(stripVTControlCharacters(terminal.stream.text)).toMatch(/there w wa was\n/)
  })

  it('stops at every end token of generation_config.json', async () => {
    writeFileSync(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: [256, 69] }))
    expect((await run({ prompt: 'A', maxTokens: 20 })).reason).toBe('stop')
    expect((await run({ prompt: 'A', maxTokens: 20 })).stream.records.at(-1)).toMatchObject({ text: 'BCD' })
  })

  it('warns once of what config.json and generation_config.json say otherwise', async () => {
    writeFileSync(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: 69 }))
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    await run()
    expect(warn.mock.calls.map(([message]) => message)).toEqual([expect.stringMatching(/eos_token_id is 69/)])
    warn.mockRestore()
  })

  it('takes a tokenizer by the rule of the server', async () => {
    await Model.create({ ...config, vocab_size: 256, eos_token_id: 2 }).then((model) => model.save(folder))
    await expect(run()).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/the tokenizer byte-level has 257 ids, but vocab_size of the model is 256/),
    })
  })

  it('says what a file is that is no folder', async () => {
    const configFile = join(folder, 'config.json')
    const message = expect.stringMatching(/config.json is a file: give the folder of the checkpoint/)
    const [checkpoint, controller] = [folder, new AbortController()]
    await expect(generate(configFile, defaults, new RecordingStream(false), controller.signal)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message,
    })
    folder = join(checkpoint, 'nowhere')
    await expect(run()).rejects.toMatchObject({
      message: expect.stringMatching(/nowhere: no such file or folder/),
    })
    folder = checkpoint
    folder = join(folder, 'model.gguf')
    writeFileSync(folder, 'GGUF\u0003')
    const expected = { code: 'CHECKPOINT_INVALID', message: expect.stringContaining('is a GGUF file') }
    await expect(run()).rejects.toMatchObject(expected)
    await expect(run({ tokenizer: 'byte-level' })).rejects.toMatchObject(expected)
  })

  it('says how a model gets a tokenizer', async () => {
    rmSync(join(folder, 'tokenizer.json'))
    await expect(run()).rejects.toMatchObject({
      code: 'CHECKPOINT_MISSING',
      message: expect.stringMatching(/there is no tokenizer at .*: save the model's tokenizer there .*, or byte-level/),
    })
    expect((await run({ tokenizer: 'byte-level' })).reason).toBe('length')
    writeFileSync(join(folder, 'tokenizer.model'), '')
    await expect(run()).rejects.toMatchObject({ message: expect.stringMatching(/tokenizer.model is not read: make a/) })
  })

  it('hands its options to the engine', async () => {
    const submitted: unknown[] = []
    const createEngine = addon.createEngine
    addon.createEngine = (...args) => {
      const engine = createEngine(...args)
      const { submit } = engine
      return Object.assign(engine, {
        submit: (...call: Parameters<typeof submit>) => {
          submitted.push(call[2])
          submit(...call)
        },
      })
    }
    await run({ seed: 3, routerThreshold: 0.7, maxRecursions: 2 })
    expect(submitted).toEqual([
      expect.objectContaining({
        maxTokens: 5,
        temperature: 0.5,
        topK: 7,
        topP: 0.9,
        seed: 3,
        routerThreshold: 0.7,
        maxRecursions: 2,
        stop: Int32Array.of(256),
      }),
    ])
  })

  it('refuses fewer recursions of a model whose layers repeat in place', async () => {
    const shape = {
      vocab_size: 257,
      hidden_size: 8,
      intermediate_size: 8,
      num_hidden_layers: 6,
      num_attention_heads: 2,
    }
    await using model = await Model.create({ ...shape, num_recursions: 3, sharing: 'sequence' })
    await model.save(folder)
    await expect(run({ maxRecursions: 2 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('sharing "sequence"'),
    })
    expect((await run({ maxRecursions: 3 })).reason).toBe('length')
  })

  it('stops when interrupted, and shows what there is', async () => {
    const controller = new AbortController()
    const stream = new RecordingStream(false)
    const write = stream.write.bind(stream)
    stream.write = (text) => {
      controller.abort()
      write(text)
    }
    const reason = await generate(folder, { ...defaults, maxTokens: 1000 }, stream, controller.signal)
    expect(reason).toBe('abort')
    expect(stream.records.at(-1)).toMatchObject({ type: 'generation', finishReason: 'abort' })
    expect(stream.records.length).toBeLessThan(10)
  })

  it('refuses what the model cannot do, and a folder without a model', async () => {
    await expect(run({ maxRecursions: 4 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('maxRecursions is 4'),
    })
    expect(addon.models.every((model) => model.disposed)).toBe(true)
    folder = mkdtempSync(join(tmpdir(), 'mor-generate-'))
    await expect(run()).rejects.toMatchObject({ code: 'CHECKPOINT_MISSING' })
    await expect(run({ tokenizer: 'byte-level' })).rejects.toMatchObject({
      code: 'CHECKPOINT_MISSING',
      message: expect.stringContaining('config.json'),
    })
  })
})

describe('a prompt', () => {
  const { signal } = new AbortController()

  it('that is empty is the end of the text before', async () => {
    expect([...(await promptIds(Tokenizer.byteLevel(), '', signal))]).toEqual([256])
    expect([...(await promptIds(Tokenizer.byteLevel(), 'ab', signal))]).toEqual([97, 98])
    const none = async () => [new Int32Array()]
    const endless: Tokenizer = { ...Tokenizer.byteLevel(), eosTokenId: null, encodeBatch: none }
    await expect(promptIds(endless, '', signal)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('--prompt'),
    })
  })
})
