// The AI SDK over an engine of this process: prompts, settings, results, streams, aborts and errors.
import { generateText, jsonSchema, NoObjectGeneratedError, Output, streamText, tool } from 'ai'
import { beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest'
import { createLanguageModel } from '../../../lib/ai_sdk/index.js'
import type { ModelConfig } from '../../../lib/config.js'
import { Engine } from '../../../lib/engine.js'
import { Model } from '../../../lib/model.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { templateOf } from '../chat/load_template.js'
import { turns } from '../chat/templates.js'
import { FakeAddon } from '../fake_addon.js'
import type { FakeEngine } from '../fake_engine.js'

globalThis.AI_SDK_LOG_WARNINGS = false

let addon: FakeAddon
vi.mock('../../../lib/native_loader.js', () => ({ loadNative: () => addon }))

const config: ModelConfig = {
  vocab_size: 257,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 256,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}

/** Goes on with the bytes after the last one: after 'ab' comes 'cdef…'. Prompts of the template end with ']'. */
let engine: Engine
beforeEach(async () => {
  addon = new FakeAddon()
  const model = await Model.create(config, { tokenizer: Tokenizer.byteLevel() })
  engine = new Engine(model, { chatTemplate: await templateOf(turns) })
  submit = vi.spyOn(addon.engines[0]!, 'submit')
})

let submit: MockInstance<FakeEngine['submit']>
const lastPrompt = () => Buffer.from(submit.mock.calls.at(-1)![1]).toString()
const lastParams = () => submit.mock.calls.at(-1)![2]
/** Requests wait from now on. */
const hold = () => {
  submit.mockImplementation((id, prompt, params) => {
    addon.engines[0]!.queue.push({ id, prompt, last: 0, left: 1, params })
  })
}
const image = { type: 'image' as const, image: new Uint8Array([1, 2, 3]), mediaType: 'image/png' }

describe('generateText', () => {
  it('answers a conversation with text, usage, finish reason and depths', async () => {
    const result = await generateText({
      model: createLanguageModel(engine, { modelId: 'stories' }),
      system: 'Be brief.',
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b' },
        { role: 'user', content: [{ type: 'text', text: 'c' }] },
      ],
      maxOutputTokens: 4,
    })
    expect(lastPrompt()).toBe('<s>[Q] Be brief.\n\na [/Q] b</s>[Q] c [/Q]')
    expect(result).toMatchObject({
      text: '^_`a',
      finishReason: 'length',
      rawFinishReason: 'length',
      usage: { inputTokens: lastPrompt().length, outputTokens: 4, totalTokens: lastPrompt().length + 4 },
      providerMetadata: { mor: { depths: [...'^_`a'].map((letter) => (letter.charCodeAt(0) % 3) + 1) } },
      response: { modelId: 'stories', id: expect.stringMatching(/^mor-/) },
    })
    expect(result.warnings).toEqual([])
  })

  it('hands settings to the engine', async () => {
    const model = createLanguageModel(engine)
    const result = await generateText({
      model,
      prompt: 'Hi',
      maxOutputTokens: 20,
      temperature: 0.5,
      topP: 0.75,
      topK: 7,
      presencePenalty: 0.5,
      frequencyPenalty: -0.25,
      seed: 11,
      stopSequences: ['bc'],
      providerOptions: { mor: { maxRecursions: 2, minTokens: 1, variables: { thinking: false } } },
    })
    expect(lastParams()).toMatchObject({
      maxTokens: 20,
      temperature: 0.5,
      topP: 0.75,
      topK: 7,
      presencePenalty: 0.5,
      frequencyPenalty: -0.25,
      seed: 11,
      maxRecursions: 2,
      minTokens: 1,
    })
    expect(result).toMatchObject({ text: '^_`a', finishReason: 'stop', warnings: [] })
    await generateText({ model, prompt: 'Hi' })
    expect(lastParams().maxTokens).toBe(256 - lastPrompt().length)
  })

  it('warns of what the model does not have', async () => {
    const model = createLanguageModel(engine)
    const weather = tool({ description: 'weather', inputSchema: jsonSchema({ type: 'object' }) })
    const { warnings, text } = await generateText({ model, prompt: 'Hi', maxOutputTokens: 2, tools: { weather } })
    expect(text).toBe('^_')
    expect(warnings).toEqual([{ type: 'unsupported', feature: 'tools', details: expect.any(String) }])
    const result = await model.doGenerate({
      prompt: [
        { role: 'user', content: [{ type: 'text', text: 'a' }] },
        { role: 'assistant', content: [{ type: 'reasoning', text: 'hm' }] },
        { role: 'user', content: [{ type: 'text', text: 'a' }] },
      ],
      maxOutputTokens: 2,
      toolChoice: { type: 'required' },
      responseFormat: { type: 'json' },
    })
    expect(result.warnings.map((warning) => 'feature' in warning && warning.feature)).toEqual([
      'toolChoice',
      'responseFormat',
      'reasoning',
    ])
    const object = generateText({
      model,
      prompt: 'Hi',
      maxOutputTokens: 2,
      output: Output.object({ schema: jsonSchema({ type: 'object' }) }),
    })
    await expect(object.then(({ output }) => output)).rejects.toSatisfy(NoObjectGeneratedError.isInstance)
  })

  it.each([
    ['an image', { messages: [{ role: 'user' as const, content: [image] }] }, /image\/png/],
    [
      'a result of a tool',
      {
        messages: [
          { role: 'user' as const, content: 'a' },
          {
            role: 'assistant' as const,
            content: [{ type: 'tool-call' as const, toolCallId: '1', toolName: 't', input: {} }],
          },
          {
            role: 'tool' as const,
            content: [
              {
                type: 'tool-result' as const,
                toolCallId: '1',
                toolName: 't',
                output: { type: 'text' as const, value: 'x' },
              },
            ],
          },
        ],
      },
      /tool/,
    ],
  ])('refuses %s', async (_, prompt, message) => {
    const asked = generateText({ model: createLanguageModel(engine), ...prompt })
    await expect(asked).rejects.toThrow(message)
    expect(submit.mock.calls).toEqual([])
  })

  it.each([
    ['a setting', { prompt: 'a', temperature: -1 }, /temperature is -1/],
    ['an option', { prompt: 'a', providerOptions: { mor: { maxRecursion: 1 } } }, /maxRecursions/],
    ['messages', { messages: [1, 2].map(() => ({ role: 'user' as const, content: 'a' })) }, /take turns/],
  ])('throws what the engine says of %s', async (_, wrong, message) => {
    const asked = generateText({ model: createLanguageModel(engine), ...wrong })
    await expect(asked).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) })
  })

  it('throws an error of the generation', async () => {
    hold()
    const asked = generateText({ model: createLanguageModel(engine), prompt: 'a' })
    await vi.waitFor(() => expect(submit.mock.calls.length).toBe(1))
    addon.engines[0]!.fail([{ id: submit.mock.calls[0]![0], code: 'DEVICE_LOST', message: 'gone' }])
    await expect(asked).rejects.toMatchObject({ code: 'DEVICE_LOST', message: 'gone' })
  })

  it('ends when it is aborted, and when the engine is closed', async () => {
    hold()
    const model = createLanguageModel(engine)
    const controller = new AbortController()
    const asked = generateText({ model, prompt: 'a', abortSignal: controller.signal })
    await vi.waitFor(() => expect(submit.mock.calls.length).toBe(1))
    controller.abort()
    await expect(asked).rejects.toMatchObject({ name: 'AbortError' })
    expect(addon.engines[0]!.queue).toEqual([])
    const closed = generateText({ model, prompt: 'a' })
    await vi.waitFor(() => expect(submit.mock.calls.length).toBe(2))
    await engine.close()
    await expect(closed).rejects.toMatchObject({ code: 'ABORTED' })
  })
})

describe('streamText', () => {
  it('streams text, then usage, finish reason, depths and warnings', async () => {
    const weather = tool({ inputSchema: jsonSchema({ type: 'object' }) })
    const model = createLanguageModel(engine)
    const result = streamText({ model, prompt: 'Hi', maxOutputTokens: 3, tools: { weather } })
    const pieces: string[] = []
    for await (const piece of result.textStream) pieces.push(piece)
    expect(pieces).toEqual(['^', '_', '`'])
    expect(await result.finishReason).toBe('length')
    expect(await result.usage).toMatchObject({ inputTokens: lastPrompt().length, outputTokens: 3 })
    expect(await result.providerMetadata).toEqual({ mor: { depths: [2, 3, 1] } })
    expect(await result.warnings).toMatchObject([{ feature: 'tools' }])
  })

  it('ends when it is aborted', async () => {
    const controller = new AbortController()
    const model = createLanguageModel(engine)
    const onAbort = vi.fn()
    const onError = vi.fn()
    const result = streamText({ model, prompt: 'Hi', abortSignal: controller.signal, onAbort, onError })
    const types: string[] = []
    for await (const { type } of result.fullStream) {
      types.push(type)
      if (type === 'text-delta') controller.abort()
    }
    expect(types.at(-1)).toBe('abort')
    expect(onAbort).toHaveBeenCalledOnce()
    expect(onError).not.toHaveBeenCalled()
    await vi.waitFor(() => expect(addon.engines[0]!.queue).toEqual([]))
  })

  it('aborts the generation when its reader leaves', async () => {
    const { stream } = await createLanguageModel(engine).doStream({
      prompt: [{ role: 'user', content: [{ type: 'text', text: 'a' }] }],
    })
    const reader = stream.getReader()
    while ((await reader.read()).value?.type !== 'text-delta');
    await reader.cancel()
    await vi.waitFor(() => expect(addon.engines[0]!.queue).toEqual([]))
  })

  it('reports an error in the stream', async () => {
    hold()
    const onError = vi.fn()
    const result = streamText({ model: createLanguageModel(engine), prompt: 'Hi', onError })
    const reading = (async () => {
      for await (const _ of result.textStream);
    })()
    await vi.waitFor(() => expect(submit.mock.calls.length).toBe(1))
    addon.engines[0]!.fail([{ id: submit.mock.calls[0]![0], code: 'DEVICE_LOST', message: 'gone' }])
    await reading
    expect(onError).toHaveBeenCalledWith({ error: expect.objectContaining({ code: 'DEVICE_LOST' }) })
    expect(await result.finishReason).toBe('error')
  })
})

describe('the mode "completion"', () => {
  it('goes on from the text of the prompt', async () => {
    const model = createLanguageModel(engine, { mode: 'completion' })
    const { text, usage } = await generateText({ model, prompt: 'ab', maxOutputTokens: 3 })
    expect([lastPrompt(), text, usage.inputTokens]).toEqual(['ab', 'cde', 2])
    await generateText({ model, prompt: 'ab', stopSequences: ['e'] })
    expect(lastParams().maxTokens).toBe(254)
  })

  it('takes no conversation', async () => {
    const model = createLanguageModel(engine, { mode: 'completion' })
    await expect(generateText({ model, prompt: 'ab', system: 'Be brief.' })).rejects.toThrow('mode "completion"')
  })
})

it('refuses options that it does not know', () => {
  expect(() => createLanguageModel(engine, { mode: 'text' as 'chat' })).toThrow(/mode is "text"/)
  expect(() => createLanguageModel(engine, { model: 'x' } as object)).toThrow('unknown key "model"')
})
