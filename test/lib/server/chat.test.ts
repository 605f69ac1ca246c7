// Chat over HTTP with OpenAI's client, against an engine that answers what a test says.
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ChatTemplate } from '../../../lib/chat/chat_template.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { templateOf } from '../chat/load_template.js'
import { turns } from '../chat/templates.js'
import { loadFamily } from '../tokenizer/families.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'
import { listen, type TestServer } from './tiny_model.js'

const text = 'né XYZ'
let chatTemplate: ChatTemplate
let engine: ScriptedEngine
let server: TestServer
let client: OpenAI
beforeAll(async () => {
  chatTemplate = await templateOf(turns)
  engine = new ScriptedEngine(answerText(text))
  server = await listen({ engine, chatTemplate, apiKey: 'secret' })
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'secret', maxRetries: 0 })
})
afterAll(() => server[Symbol.asyncDispose]())

const ask = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }] } satisfies OpenAI.ChatCompletionCreateParams
const prompt = '<s>[Q] Hi [/Q]'

describe('a whole answer', () => {
  it('has the text as a message of the assistant, and the usage', async () => {
    const before = Math.floor(Date.now() / 1000)
    const answer = await client.chat.completions.create(ask)
    expect(answer).toEqual({
      id: expect.stringMatching(/^chatcmpl-[0-9a-f]{32}$/),
      object: 'chat.completion',
      created: expect.any(Number),
      model: 'tiny',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: text, refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: prompt.length, completion_tokens: 7, total_tokens: prompt.length + 7 },
    })
    expect(answer.created).toBeGreaterThanOrEqual(before)
    expect(Buffer.from(engine.requests.at(-1)!.prompt).toString()).toBe(prompt)
  })

  it('may have as many tokens as the context holds, or as asked for', async () => {
    const limit = async (fields: object) => {
      await client.chat.completions.create({ ...ask, ...fields })
      return engine.requests.at(-1)!.options.maxTokens
    }
    expect(await limit({})).toBe(64 - prompt.length)
    expect(await limit({ max_completion_tokens: 5 })).toBe(5)
    expect(await limit({ max_tokens: 6 })).toBe(6)
  })

  it('passes every option on, and its own seed to each answer', async () => {
    const fields = { n: 2, seed: 7, temperature: 0.5, top_p: 0.9, presence_penalty: 1, logit_bias: { 5: -1 } }
    const { choices } = await client.chat.completions.create({ ...ask, ...fields, max_completion_tokens: 9 })
    expect(choices.map(({ index, message }) => [index, message.content])).toEqual([
      [0, text],
      [1, text],
    ])
    const options = { maxTokens: 9, temperature: 0.5, topP: 0.9, topK: 0, presencePenalty: 1, logitBias: { 5: -1 } }
    expect(engine.requests.slice(-2).map((request) => request.options)).toEqual([
      { ...options, seed: 7 },
      { ...options, seed: 8 },
    ])
  })

  it('stops at a text', async () => {
    const { choices } = await client.chat.completions.create({ ...ask, stop: ['XY'] })
    expect(choices[0]).toMatchObject({ message: { content: 'né ' }, finish_reason: 'stop' })
  })

  it('gives log-probabilities in the form of chat', async () => {
    const bare = await client.chat.completions.create({ ...ask, logprobs: true })
    const bytes = [...Buffer.from(text)]
    expect(bare.choices[0]!.logprobs).toEqual({
      content: bytes.map((byte, i) => {
        const token = ['n', '', 'é', ' ', 'X', 'Y', 'Z'][i]!
        return { token, logprob: byte / -128, bytes: [...Buffer.from(token)], top_logprobs: [] }
      }),
      refusal: null,
    })
    const none = await client.chat.completions.create({ ...ask, logprobs: false, top_logprobs: 0 })
    expect(none.choices[0]!.logprobs).toBeNull()
    const { choices } = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 3 })
    const tops = choices[0]!.logprobs!.content!.map(({ top_logprobs }) => top_logprobs.map(({ token }) => token))
    // A byte is followed by the next ones in the lists; those within a character have no text.
    expect(tops.slice(0, 3)).toEqual([
      ['n', 'o', 'p'],
      ['', 'token_id:196', 'token_id:197'],
      ['é', 'ê', 'ë'],
    ])
    expect(choices[0]!.logprobs!.content![1]!.top_logprobs[1]).toEqual({
      token: 'token_id:196',
      logprob: 0xc3 / -128 - 1,
      bytes: null,
    })
  })
})

describe('a stream', () => {
  it('begins with the role, goes on with text, and ends with the reason and the usage', async () => {
    const stream = await client.chat.completions.create({
      ...ask,
      stream: true,
      stream_options: { include_usage: true, include_obfuscation: true },
    })
    const chunks = []
    for await (const chunk of stream) chunks.push(chunk)
    expect(new Set(chunks.map(({ id, object }) => `${id} ${object}`)).size).toBe(1)
    const { id, object } = chunks[0]!
    expect([id.slice(0, 9), object]).toEqual(['chatcmpl-', 'chat.completion.chunk'])
    const deltas = chunks.map(({ choices: [choice] }) => choice && [choice.delta, choice.finish_reason])
    expect(deltas[0]).toEqual([{ role: 'assistant', content: '' }, null])
    expect(deltas.slice(1, -2).map((delta) => delta![1])).toEqual(Array(6).fill(null))
    expect(chunks.slice(1, -2).map(({ choices: [choice] }) => choice!.delta.content)).toEqual([...text])
    expect(deltas.slice(-2)).toEqual([[{}, 'stop'], undefined])
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true)
    expect(chunks.at(-1)!.usage).toMatchObject({ prompt_tokens: prompt.length, completion_tokens: 7 })
  })

  it('has every answer, and the same log-probabilities as the whole', async () => {
    const fields = { ...ask, n: 2, logprobs: true, top_logprobs: 1 }
    const whole = await client.chat.completions.create(fields)
    const texts = ['', '']
    const logprobs: unknown[][] = [[], []]
    for await (const { choices } of await client.chat.completions.create({ ...fields, stream: true })) {
      const { index, delta, logprobs: more } = choices[0]!
      texts[index] += delta.content ?? ''
      logprobs[index]!.push(...(more?.content ?? []))
    }
    expect(texts).toEqual([text, text])
    expect(logprobs).toEqual(whole.choices.map((choice) => choice.logprobs!.content))
  })

  it('is also what the client’s helper reads', async () => {
    const runner = client.chat.completions.stream({ ...ask, stream_options: { include_usage: true } })
    expect(await runner.finalContent()).toBe(text)
    expect((await runner.totalUsage()).completion_tokens).toBe(7)
  })
})

describe('the prompt', () => {
  it('has one begin token, that of the template', async () => {
    const tokenizer = await loadFamily('llama')
    const own = new ScriptedEngine(answerText('x'))
    await using llama = await listen({ engine: own, tokenizer, chatTemplate })
    const other = new OpenAI({ baseURL: `${llama.url}/v1`, apiKey: 'any' })
    await other.chat.completions.create({ ...ask, max_tokens: 1 })
    const { prompt: tokens } = own.requests[0]!
    expect(tokens.filter((token) => token === tokenizer.bosTokenId)).toHaveLength(1)
    expect(tokens[0]).toBe(tokenizer.bosTokenId)
    const response = await fetch(`${llama.url}/tokenize`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ messages: ask.messages }),
    })
    expect(await response.json()).toMatchObject({ tokens, count: tokens.length })
  })

  it('takes parts, developers, and variables of the template', async () => {
    const own = new ScriptedEngine(answerText('x'))
    const template = await templateOf('{{ tone }}{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}')
    await using other = await listen({ engine: own, chatTemplate: template, strict: true })
    const messages = [
      { role: 'developer', content: 'a' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'b' },
          { type: 'text', text: 'c' },
        ],
      },
    ]
    const body = { model: 'tiny', messages, chat_template_kwargs: { tone: '!' }, store: true, metadata: { a: '1' } }
    const response = await fetch(`${other.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    expect(response.status).toBe(200)
    expect(Buffer.from(own.requests[0]!.prompt).toString()).toBe('!system:a;user:b\nc;')
  })
})

describe('bad input', () => {
  const hi = { role: 'user', content: 'Hi' }
  const image = { type: 'image_url', image_url: { url: 'http://a/b.png' } }

  it.each<[string, object, string?]>([
    ['messages', { messages: [] }],
    ['messages', { messages: undefined }],
    ['messages', { messages: 'Hi' }],
    ['messages[0].role', { messages: [{ content: 'Hi' }] }],
    ['messages[0].content', { messages: [{ role: 'user' }] }],
    ['messages[1].content[0].type', { messages: [hi, { role: 'user', content: [image] }] }, 'unsupported_field'],
    ['messages[1].role', { messages: [hi, { role: 'tool', content: '5', tool_call_id: 'x' }] }, 'unsupported_field'],
    ['messages', { messages: [hi, hi] }],
    ['messages', { messages: [{ role: 'assistant', content: 'Hi' }] }],
    ['messages', { messages: [{ role: 'user', content: 'x'.repeat(64) }] }, 'context_length_exceeded'],
    ['messages', { messages: [{ role: 'user', content: 'x'.repeat(2000) }] }, 'context_length_exceeded'],
    ['messages', { messages: Array(64).fill({ role: 'user', content: '' }) }, 'context_length_exceeded'],
    ['model', { model: 5 }],
    ['n', { n: 0 }],
    ['max_tokens', { max_tokens: 0 }],
    ['max_tokens', { max_tokens: 60 }, 'context_length_exceeded'],
    ['max_completion_tokens', { max_completion_tokens: 60 }, 'context_length_exceeded'],
    ['max_tokens', { max_tokens: 5, max_completion_tokens: 5 }],
    ['logprobs', { logprobs: 5 }],
    ['top_logprobs', { top_logprobs: 5 }],
    ['top_logprobs', { logprobs: true, top_logprobs: 21 }],
    ['temperature', { temperature: 2.5 }],
    ['top_p', { top_p: 1e-300 }],
    ['logit_bias', { logit_bias: { 320: 1 } }],
    ['stop', { stop: 'x'.repeat(16 * 64 + 1) }],
    ['min_tokens', { min_tokens: 6, max_tokens: 5 }],
    ['min_tokens', { min_tokens: 60 }, 'context_length_exceeded'],
    ['stream_options', { stream_options: { include_usage: true } }],
    ['tools', { tools: [{ type: 'function', function: { name: 'f' } }] }, 'unsupported_field'],
    ['tool_choice', { tool_choice: 'required' }, 'unsupported_field'],
    ['functions', { functions: [{ name: 'f' }] }, 'unsupported_field'],
    ['response_format', { response_format: { type: 'json_object' } }, 'unsupported_field'],
    ['modalities', { modalities: ['text', 'audio'] }, 'unsupported_field'],
    ['audio', { audio: { voice: 'x' } }, 'unsupported_field'],
    ['user', { user: 5 }, 'unsupported_field'],
    ['chat_template_kwargs', { chat_template_kwargs: 'x' }],
    ['add_generation_prompt', { add_generation_prompt: 'x' }],
  ])('names %s of %j', async (param, fields, code) => {
    const before = engine.requests.length
    const asked = client.chat.completions.create({ ...ask, ...fields } as OpenAI.ChatCompletionCreateParams)
    await expect(asked).rejects.toMatchObject({
      status: 400,
      param,
      type: 'invalid_request_error',
      ...(code !== undefined && { code }),
    })
    expect(engine.requests.length).toBe(before)
  })

  it('takes what asks for nothing', async () => {
    const nothing = {
      tools: [],
      tool_choice: 'none',
      response_format: { type: 'text' },
      modalities: ['text'],
      user: 'me',
      parallel_tool_calls: true,
      reasoning_effort: 'low',
    }
    const asked = client.chat.completions.create({ ...ask, ...nothing } as OpenAI.ChatCompletionCreateParams)
    expect(await asked).toMatchObject({ choices: [{ finish_reason: 'stop' }] })
  })

  it('says that a model without a template takes no messages', async () => {
    await using plain = await listen({ engine: new ScriptedEngine(), tokenizer: Tokenizer.byteLevel() })
    const other = new OpenAI({ baseURL: `${plain.url}/v1`, apiKey: 'any', maxRetries: 0 })
    await expect(other.chat.completions.create(ask)).rejects.toMatchObject({
      status: 400,
      code: 'no_chat_template',
      message: expect.stringContaining('no chat template'),
    })
  })

  it('answers an unknown model, a wrong key and a failed generation as completions do', async () => {
    await expect(client.chat.completions.create({ ...ask, model: 'gpt' })).rejects.toMatchObject({ status: 404 })
    const wrong = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x', maxRetries: 0 })
    await expect(wrong.chat.completions.create(ask)).rejects.toMatchObject({ status: 401 })
    const { MorError } = await import('../../../lib/errors.js')
    const failing = new ScriptedEngine(({ generation }) =>
      generation.finish('error', new MorError('DEVICE_LOST', 'inner')),
    )
    await using own = await listen({ engine: failing, chatTemplate })
    const other = new OpenAI({ baseURL: `${own.url}/v1`, apiKey: 'any', maxRetries: 0 })
    await expect(other.chat.completions.create(ask)).rejects.toMatchObject({ status: 500, code: 'generation_failed' })
    const stream = await other.chat.completions.create({ ...ask, stream: true })
    const read = async () => {
      for await (const _ of stream) {
        // only the error is of interest
      }
    }
    await expect(read()).rejects.toThrow('DEVICE_LOST')
  })
})
