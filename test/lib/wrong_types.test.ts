// Values of a wrong type, which only JavaScript can give: each is named with what belongs there, and nothing is begun.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { ChatTemplate } from '../../lib/chat/chat_template.js'
import { convert } from '../../lib/convert.js'
import { Engine } from '../../lib/engine.js'
import { evaluate } from '../../lib/evaluate.js'
import { readTasks } from '../../lib/evaluation/tasks.js'
import { Model } from '../../lib/model.js'
import { trainTokenizer } from '../../lib/tokenizer/training/train.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { Trainer } from '../../lib/trainer.js'
import { templateOf } from './chat/load_template.js'
import { turns } from './chat/templates.js'
import { FakeAddon } from './fake_addon.js'
import { tokenizerFolder } from './tokenizer/families.js'

const addon = new FakeAddon()
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))
const folder = mkdtempSync(join(tmpdir(), 'mor-wrong-types-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const config = {
  vocab_size: 300,
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 2,
}
const refused = (message: RegExp) =>
  expect.objectContaining({ name: 'MorError', code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) })
const wrongPaths = [5, null, undefined, {}, '', 'a\0b'] as string[]

describe('a path', () => {
  it.each(wrongPaths)('is not %j', async (path) => {
    await using model = await Model.create(config)
    await using trainer = new Trainer(model, { learningRate: 1 })
    const huggingFace = await Tokenizer.load(tokenizerFolder('llama'))
    const message = /it must be a path: a text that is neither empty nor holds NUL/
    await expect(Model.load(path)).rejects.toEqual(refused(message))
    await expect(model.save(path)).rejects.toEqual(refused(message))
    await expect(Trainer.resume(path)).rejects.toEqual(refused(message))
    await expect(Trainer.fromCheckpoint(path, { learningRate: 1 })).rejects.toEqual(refused(message))
    await expect(trainer.save(path)).rejects.toEqual(refused(message))
    await expect(Tokenizer.load(path)).rejects.toEqual(refused(message))
    await expect(Tokenizer.byteLevel().save(path)).rejects.toEqual(refused(message))
    await expect(huggingFace.save(path)).rejects.toEqual(refused(message))
    await expect(convert(path, { output: join(folder, 'new') })).rejects.toEqual(refused(message))
    await expect(convert(folder, { output: path })).rejects.toEqual(refused(message))
    await expect(readTasks(path)).rejects.toEqual(refused(message))
    await expect(ChatTemplate.load(path)).rejects.toEqual(refused(message))
    await expect(trainTokenizer([__filename], path, { vocabSize: 300 })).rejects.toEqual(refused(message))
  })
})

describe('a text', () => {
  it('is nothing else', async () => {
    for (const tokenizer of [Tokenizer.byteLevel(), await Tokenizer.load(tokenizerFolder('llama'))]) {
      expect(() => tokenizer.encode(5 as never)).toThrow(refused(/encode: the text is 5; it must be a text/))
      await expect(tokenizer.encodeBatch(5 as never)).rejects.toEqual(
        refused(/texts is 5; it must be an array of texts/),
      )
      await expect(tokenizer.encodeBatch(['a', null] as never)).rejects.toEqual(
        refused(/texts\[1\] is null; it must be/),
      )
    }
  })
})

describe("a tokenizer's calls", () => {
  const tokenizers = async () => [Tokenizer.byteLevel(), await Tokenizer.load(tokenizerFolder('llama'))]
  // biome-ignore lint/suspicious/noExplicitAny: any value can be given
  type Call = (tokenizer: Tokenizer, value: any) => unknown
  const encode: Call = (tokenizer, options) => tokenizer.encode('a', options)
  const encodeBatch: Call = (tokenizer, options) => tokenizer.encodeBatch(['a'], options)
  const decode: Call = (tokenizer, options) => tokenizer.decode([65], options)

  it.each<[string, Call, unknown, RegExp]>([
    ['encode', encode, null, /^encode is null; it must be an object/],
    ['encode', encode, 5, /^encode is 5/],
    ['encode', encode, { addSpecialToken: false }, /^encode: unknown key "addSpecialToken" \(did you mean/],
    ['encode', encode, { addSpecialTokens: 'no' }, /^encode: addSpecialTokens is "no"; it must be true or false/],
    ['encodeBatch', encodeBatch, null, /^encodeBatch is null/],
    ['encodeBatch', encodeBatch, { thread: 2 }, /^encodeBatch: unknown key "thread" \(did you mean "threads"/],
    ['encodeBatch', encodeBatch, { threads: 0 }, /^encodeBatch: threads is 0; it must be an integer from 1 to 4096/],
    ['encodeBatch', encodeBatch, { signal: 5 }, /^encodeBatch: signal is 5; it must be an AbortSignal/],
    ['decode', decode, null, /^decode is null/],
    ['decode', decode, { skipSpecialToken: true }, /^decode: unknown key "skipSpecialToken" \(did you mean/],
    ['decode', decode, { skipSpecialTokens: 1 }, /^decode: skipSpecialTokens is 1; it must be true or false/],
  ])('%s does not take these options', async (_, call, options, message) => {
    for (const tokenizer of await tokenizers())
      await expect((async () => call(tokenizer, options))()).rejects.toEqual(refused(message))
  })

  it.each([[null], [5], ['ab'], [{}], [{ length: 1 }]])('do not take %j for ids', async (ids) => {
    for (const tokenizer of await tokenizers()) {
      const wrong = ids as never
      expect(() => tokenizer.decode(wrong)).toThrow(refused(/^decode: the ids is .*; it must be an array of token ids/))
      expect(() => tokenizer.detokenizer(wrong)).toThrow(refused(/^detokenizer: the prompt is .*; it must be an array/))
    }
  })
})

describe('a signal', () => {
  const calls: [string, (model: Model, trainer: Trainer, signal: never) => Promise<unknown>][] = [
    ['forward', (model, _, signal) => model.forward([[1]], { signal })],
    ['logprobs', (model, _, signal) => model.logprobs([[1]], [[2]], { signal })],
    ['hiddenStates', (model, _, signal) => model.hiddenStates([[1]], { signal })],
    ['step', (_, trainer, signal) => trainer.step([[1, 2]], { signal })],
    ['evaluate', (_, trainer, signal) => trainer.evaluate([[1, 2]], { signal })],
  ]
  it.each(calls)('of %s is an AbortSignal, and null counts as left out', async (where, call) => {
    await using model = await Model.create(config)
    await using trainer = new Trainer(model, { learningRate: 1 })
    for (const wrong of [7, 'x', {}])
      await expect(call(model, trainer, wrong as never)).rejects.toEqual(
        refused(new RegExp(`^${where}: signal is .*; it must be an AbortSignal`)),
      )
    // The stand-in of the addon cannot do all of them.
    await call(model, trainer, null as never).catch(({ message }) => expect(message).toMatch(/^the fake model/))
  })
})

describe('the options of a chat template', () => {
  const messages = [{ role: 'user' as const, content: 'x' }]
  it.each<[unknown, RegExp]>([
    [{ addGenerationPrompt: 'false' }, /addGenerationPrompt is "false"; it must be true or false/],
    [{ variables: 'tone' }, /variables is "tone"; it must be an object/],
    [{ variables: 5 }, /variables is 5; it must be an object/],
    [{ variables: new Map([['tone', 'kind']]) }, /variables is a Map/],
  ])('are not %j, also in chat', async (options, message) => {
    await using engine = new Engine(await Model.create(config))
    const template = await templateOf(turns)
    expect(() => template.render(messages, options as never)).toThrow(refused(message))
    expect(() => engine.chat(messages, options as never)).toThrow(refused(message))
  })

  it('are named where they are unknown, and null counts as left out', async () => {
    const template = await templateOf(turns)
    expect(() => template.render(messages, null as never)).toThrow(refused(/^render is null; it must be an object/))
    expect(() => template.render(messages, { addGenerationPromt: false } as never)).toThrow(
      refused(/^render: unknown key "addGenerationPromt" \(did you mean "addGenerationPrompt"/),
    )
    const leftOut = { addGenerationPrompt: null, variables: null } as never
    expect(template.render(messages, leftOut)).toBe(template.render(messages))
  })
})

describe('a model and a tokenizer', () => {
  it('are what the package makes', async () => {
    await using model = await Model.create(config)
    const message = /the model is .*; give what Model.create or Model.load resolves to/
    for (const wrong of [5, null, {}, 'folder']) {
      expect(() => new Engine(wrong as never)).toThrow(refused(message))
      expect(() => new Trainer(wrong as never, { learningRate: 1 })).toThrow(refused(message))
    }
    expect(() => new Engine(model, { tokenizer: 'folder' as never })).toThrow(
      refused(/Engine: tokenizer is "folder"; give Tokenizer.byteLevel\(\) or what Tokenizer.load resolves to/),
    )
  })
})

describe('options', () => {
  it.each([[null], [5], ['x'], [[]]])('are not %j', async (options) => {
    await using model = await Model.create(config)
    await using engine = new Engine(model)
    const wrong = options as never
    const message = /is (null|5|"x"|\[\]); it must be an object/
    expect(() => engine.chat([{ role: 'user', content: 'x' }], wrong)).toThrow(refused(message))
    await expect(Trainer.resume(folder, wrong)).rejects.toEqual(refused(message))
    await expect(Trainer.fromCheckpoint(folder, wrong)).rejects.toEqual(refused(message))
    await expect(trainTokenizer([__filename], join(folder, 'new'), wrong)).rejects.toEqual(refused(message))
  })

  it('may not be left out where one of them must be given', async () => {
    await expect(Trainer.fromCheckpoint(folder, undefined as never)).rejects.toEqual(
      refused(/is undefined; it must be/),
    )
    await expect(trainTokenizer([__filename], folder, undefined as never)).rejects.toEqual(refused(/is undefined; it/))
  })
})

describe('an evaluation', () => {
  const task = { name: 'a', type: 'perplexity', data: __filename } as const
  it('is of a model', async () => {
    for (const wrong of [5, null, {}, 'folder'])
      await expect(evaluate(wrong as never, [task])).rejects.toEqual(refused(/the model is .*; give what Model.create/))
  })

  it('is by a list of tasks', async () => {
    await using model = await Model.create(config)
    for (const [wrong, given] of [
      ['tasks.json', '"tasks.json"'],
      [task, '{"name":"a",'],
      [null, 'null'],
    ] as const)
      await expect(evaluate(model, wrong as never)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(`evaluate: the tasks are ${given}`),
      })
    await expect(evaluate(model, 5 as never)).rejects.toEqual(
      refused(/^evaluate: the tasks are 5; they must be a list, such as readTasks resolves to$/),
    )
    await expect(evaluate(model, [])).rejects.toEqual(refused(/^evaluate: there are no tasks; give a list of at least/))
  })

  it.each<[object | null, RegExp]>([
    [null, /^evaluate: the options are null; they must be an object/],
    [{ tokenizer: 'x' }, /tokenizer is "x"; give Tokenizer.byteLevel/],
    [{ onProgress: 5 }, /onProgress is 5; it must be a function/],
    [{ onResult: 'x' }, /onResult is "x"; it must be a function/],
    [{ signal: 5 }, /signal is 5; it must be an AbortSignal/],
  ])('does not take %j', async (options, message) => {
    await using model = await Model.create(config, { tokenizer: Tokenizer.byteLevel() })
    await expect(evaluate(model, [task], options as never)).rejects.toEqual(refused(message))
  })
})

describe('the training of a tokenizer', () => {
  it.each<[object, RegExp]>([
    [{}, /vocabSize is missing/],
    [{ vocabSize: 300, vocabsize: 5 }, /unknown key "vocabsize"/],
    [{ vocabSize: '300' }, /vocabSize is "300"/],
    [
      { vocabSize: 300, specialTokens: '<|endoftext|>' },
      /specialTokens is "<\|endoftext\|>"; it must be an array of texts/,
    ],
    [{ vocabSize: 300, textField: 5 }, /textField is 5; it must be a text/],
    [{ vocabSize: 300, format: 'csv' }, /format is "csv"; it must be "text"/],
    [{ vocabSize: 300, onProgress: 5 }, /onProgress is 5; it must be a function/],
    [{ vocabSize: 300, signal: {} }, /signal is \{\}; it must be an AbortSignal/],
  ])('does not take %j', async (options, message) => {
    const training = trainTokenizer([__filename], join(folder, 'new'), options as never)
    await expect(training).rejects.toEqual(refused(message))
  })

  it.each([[null], [__filename], [[5]], [[]]])('does not take the files %j', async (files) => {
    const training = trainTokenizer(files as never, join(folder, 'new'), { vocabSize: 300 })
    await expect(training).rejects.toEqual(refused(/trainTokenizer: (the files are|file 1 is)/))
  })
})
