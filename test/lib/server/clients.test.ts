// Clients that Node programs use beside OpenAI's own: the AI SDK and LangChain.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { AIMessage, HumanMessage, SystemMessage } from '@langchain/core/messages'
import { ChatOpenAI, OpenAI } from '@langchain/openai'
import { generateText, streamText } from 'ai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { templateOf } from '../chat/load_template.js'
import { turns } from '../chat/templates.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'
import { listen, type TestServer } from './tiny_model.js'

const text = 'Well, né.'
const tokens = Buffer.byteLength(text)
let engine: ScriptedEngine
let server: TestServer
beforeAll(async () => {
  engine = new ScriptedEngine(answerText(text))
  server = await listen({ engine, chatTemplate: await templateOf(turns), apiKey: 'secret' })
})
afterAll(() => server[Symbol.asyncDispose]())

const lastPrompt = () => Buffer.from(engine.requests.at(-1)!.prompt).toString()

describe('the AI SDK', () => {
  const provider = () =>
    createOpenAICompatible({ name: 'mor', baseURL: `${server.url}/v1`, apiKey: 'secret', includeUsage: true })

  it('generates text of a conversation', async () => {
    const result = await generateText({
      model: provider()('tiny'),
      system: 'Be brief.',
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b' },
        { role: 'user', content: [{ type: 'text', text: 'c' }] },
      ],
      maxOutputTokens: 20,
      temperature: 0,
      seed: 3,
      stopSequences: ['###'],
    })
    expect(result).toMatchObject({
      text,
      finishReason: 'stop',
      usage: { inputTokens: lastPrompt().length, outputTokens: tokens },
    })
    expect(lastPrompt()).toBe('<s>[Q] Be brief.\n\na [/Q] b</s>[Q] c [/Q]')
    expect(engine.requests.at(-1)!.options).toMatchObject({ maxTokens: 20, temperature: 0, seed: 3 })
  })

  it('streams text', async () => {
    const result = streamText({ model: provider()('tiny'), prompt: 'Hi' })
    const pieces: string[] = []
    for await (const piece of result.textStream) pieces.push(piece)
    expect(pieces).toEqual([...text])
    expect(await result.finishReason).toBe('stop')
    expect(await result.usage).toMatchObject({ inputTokens: lastPrompt().length, outputTokens: tokens })
  })

  it('generates with a completion model', async () => {
    const result = await generateText({ model: provider().completionModel('tiny'), prompt: 'Hi', maxOutputTokens: 9 })
    expect(result.text).toBe(text)
  })

  it('throws what the server refuses', async () => {
    const asked = generateText({ model: provider()('tiny'), prompt: 'Hi', temperature: 3, maxRetries: 0 })
    await expect(asked).rejects.toMatchObject({ statusCode: 400, message: expect.stringContaining('temperature') })
  })
})

describe('LangChain', () => {
  const options = () => ({
    model: 'tiny',
    apiKey: 'secret',
    configuration: { baseURL: `${server.url}/v1` },
    maxRetries: 0,
  })

  it('invokes a chat model', async () => {
    const model = new ChatOpenAI({ ...options(), temperature: 0, maxTokens: 20, stop: ['###'] })
    const answer = await model.invoke([
      new SystemMessage('Be brief.'),
      new HumanMessage('a'),
      new AIMessage('b'),
      new HumanMessage('c'),
    ])
    expect(answer.content).toBe(text)
    expect(answer.usage_metadata).toMatchObject({ input_tokens: lastPrompt().length, output_tokens: tokens })
    expect(answer.response_metadata).toMatchObject({ finish_reason: 'stop' })
    expect(lastPrompt()).toBe('<s>[Q] Be brief.\n\na [/Q] b</s>[Q] c [/Q]')
    expect(engine.requests.at(-1)!.options).toMatchObject({ maxTokens: 20, temperature: 0 })
  })

  it('streams a chat model, and gives log-probabilities', async () => {
    const model = new ChatOpenAI({ ...options(), logprobs: true, topLogprobs: 2 })
    const pieces: string[] = []
    let logprobs = 0
    for await (const { content, response_metadata } of await model.stream('Hi')) {
      pieces.push(content as string)
      logprobs += (response_metadata.logprobs as { content: unknown[] } | undefined)?.content.length ?? 0
    }
    expect(pieces.join('')).toBe(text)
    expect(logprobs).toBe(tokens)
  })

  it('invokes a completion model', async () => {
    expect(await new OpenAI({ ...options(), maxTokens: 20 }).invoke('Hi')).toBe(text)
  })
})
