// The server as its users see it: the official client of OpenAI's API against a real engine.
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Engine } from '../../../lib/engine.js'
import { Model } from '../../../lib/model.js'
import { createServer, type ErrorBody } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { sharedData } from '../shared_data.js'
import { families, loadFamily } from '../tokenizer/families.js'
import { answerText, ScriptedEngine } from './scripted_engine.js'
import { listen, post, type TestServer } from './tiny_model.js'

let server: TestServer
let client: OpenAI
beforeAll(async () => {
  server = await listen({ apiKey: 'secret' })
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'secret', maxRetries: 0 })
})
afterAll(() => server[Symbol.asyncDispose]())

const greedy = { model: 'tiny', prompt: 'Once upon a time', temperature: 0, max_tokens: 24 } as const

/** What the engine itself generates for a prompt. */
async function direct(prompt: string, options: object) {
  const engine = server.engine as Engine
  return engine.generate(Tokenizer.byteLevel().encode(prompt), { maxTokens: 24, temperature: 0, ...options }).result
}

describe('/v1/completions', () => {
  it('gives the engine’s text, with ids, reason and usage', async () => {
    const before = Math.floor(Date.now() / 1000)
    const completion = await client.completions.create(greedy)
    const { tokens } = await direct(greedy.prompt, {})
    expect(completion).toEqual({
      id: expect.stringMatching(/^cmpl-[0-9a-f]{32}$/),
      object: 'text_completion',
      created: expect.any(Number),
      model: 'tiny',
      choices: [{ index: 0, text: Tokenizer.byteLevel().decode(tokens), logprobs: null, finish_reason: 'length' }],
      usage: { prompt_tokens: 16, completion_tokens: 24, total_tokens: 40 },
    })
    expect(completion.created).toBeGreaterThanOrEqual(before)
    expect(completion.created).toBeLessThanOrEqual(Date.now() / 1000)
  })

  it('streams the same text, whole characters at a time, and the usage last where asked for', async () => {
    const whole = await client.completions.create(greedy)
    const stream = await client.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } })
    const chunks = []
    for await (const chunk of stream) chunks.push(chunk)
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1)
    expect(chunks.length).toBeGreaterThan(5)
    expect(chunks.map((chunk) => chunk.choices[0]?.text ?? '').join('')).toBe(whole.choices[0]!.text)
    const reasons = chunks.map((chunk) => chunk.choices[0]?.finish_reason)
    expect(reasons.slice(-2)).toEqual(['length', undefined])
    expect(reasons.slice(0, -2).every((reason) => reason === null)).toBe(true)
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true)
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage })
  })

  it('streams no usage where it was not asked for', async () => {
    const response = await post(server.url, { ...greedy, stream: true }, { authorization: 'Bearer secret' })
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    const text = await response.text()
    expect(text).not.toContain('usage')
    expect(text.endsWith('"finish_reason":"length"}]}\n\ndata: [DONE]\n\n')).toBe(true)
  })

  it('gives one choice for each prompt and each n, in order', async () => {
    const prompts = ['Once', 'Twice']
    const { choices, usage } = await client.completions.create({ ...greedy, prompt: prompts, n: 2 })
    const texts = await Promise.all(prompts.map(async (prompt) => (await direct(prompt, {})).tokens))
    const [once, twice] = texts.map((tokens) => Tokenizer.byteLevel().decode(tokens))
    expect(choices.map(({ index, text }) => [index, text])).toEqual([
      [0, once],
      [1, once],
      [2, twice],
      [3, twice],
    ])
    expect(usage).toEqual({ prompt_tokens: 9, completion_tokens: 96, total_tokens: 105 })
  })

  it('takes token ids as a prompt', async () => {
    const ids = [...Buffer.from('Once')]
    const text = (await client.completions.create({ ...greedy, prompt: 'Once' })).choices[0]!.text
    expect((await client.completions.create({ ...greedy, prompt: ids })).choices[0]!.text).toBe(text)
    const both = await client.completions.create({ ...greedy, prompt: [ids, ids] })
    expect(both.choices.map((choice) => choice.text)).toEqual([text, text])
  })

  it('samples the same with the same seed, and each choice on its own', async () => {
    const ask = { ...greedy, temperature: 1, seed: 7, n: 3 }
    const texts = (await client.completions.create(ask)).choices.map(({ text }) => text)
    expect((await client.completions.create(ask)).choices.map(({ text }) => text)).toEqual(texts)
    expect(new Set(texts).size).toBe(3)
    const second = await client.completions.create({ ...ask, n: 1, seed: 8 })
    expect(second.choices[0]!.text).toBe(texts[1])
    expect((await client.completions.create({ ...ask, seed: 100 })).choices[0]!.text).not.toBe(texts[0])
  })

  it('stops at a string, though it comes in several tokens', async () => {
    const text = (await client.completions.create(greedy)).choices[0]!.text
    const stop = Array.from(text).slice(8, 11).join('')
    const stopped = await client.completions.create({ ...greedy, stop: ['not there', stop] })
    expect(stopped.choices[0]).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finish_reason: 'stop' })
    expect(stopped.usage!.completion_tokens).toBeLessThan(24)
  })

  it('gives log-probabilities of the chosen and of the most likely tokens', async () => {
    // Sampled, so that the chosen token is often not among the most likely; the texts of both are compared by id.
    const sampled = { ...greedy, temperature: 1, seed: 11 }
    const expected = await direct(greedy.prompt, { temperature: 1, seed: 11, topLogprobs: 3 })
    const { choices } = await client.completions.create({ ...sampled, logprobs: 3 })
    const { text, logprobs } = choices[0]!
    expect(logprobs!.token_logprobs).toEqual(expected.logprobs)
    expect(text.startsWith(logprobs!.tokens!.join(''))).toBe(true)
    const outside = expected.tokens.filter((id, i) => expected.topLogprobs![i]!.every(({ token }) => token !== id))
    expect(outside.length).toBeGreaterThan(0)
    logprobs!.top_logprobs!.forEach((top, i) => {
      const [token, logprob] = [logprobs!.tokens![i]!, expected.logprobs[i]!]
      expect(top[token]).toBe(logprob)
      const listed = expected.topLogprobs![i]!.map((item) => item.logprob)
      const all = listed.includes(logprob) ? listed : [...listed, logprob]
      expect(Object.values(top).sort((a, b) => b - a)).toEqual(all)
    })
    logprobs!.text_offset!.forEach((offset, i) => {
      expect(text.startsWith(logprobs!.tokens![i]!, offset)).toBe(true)
    })
    const bare = await client.completions.create({ ...sampled, logprobs: 0 })
    expect(bare.choices[0]!.logprobs).toEqual({ ...logprobs, top_logprobs: null })

    const stream = await client.completions.create({ ...sampled, logprobs: 3, stream: true })
    const streamed: Record<string, unknown[]> = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] }
    for await (const { choices } of stream)
      for (const [key, values] of Object.entries(choices[0]!.logprobs!)) streamed[key]!.push(...values)
    expect(streamed).toEqual(logprobs)
    await expect(client.completions.create({ ...greedy, logprobs: 21 })).rejects.toMatchObject({
      status: 400,
      param: 'logprobs',
      message: expect.stringContaining('from 0 to 20'),
    })
  })

  it('passes routing on: fewer recursions are another model', async () => {
    const ask = async (more: object) => (await client.completions.create({ ...greedy, ...more })).choices[0]!.text
    const { tokens } = await direct(greedy.prompt, { maxRecursions: 1 })
    expect(await ask({ max_recursions: 1 })).toBe(Tokenizer.byteLevel().decode(tokens))
    expect(await ask({ router_threshold: 1 })).toBe(await ask({ max_recursions: 1 }))
    expect(await ask({ router_threshold: 0 })).not.toBe(await ask({ max_recursions: 1 }))
  })

  it('passes every option to the engine, and its own seed to each choice', async () => {
    const engine = new ScriptedEngine(answerText('x'))
    await using own = await listen({ engine })
    const options = { temperature: 0.5, top_p: 0.9, top_k: 5, router_threshold: 0.25, max_recursions: 2, priority: -3 }
    await post(own.url, { model: 'tiny', prompt: 'p', n: 2, max_tokens: 7, seed: 40, logprobs: 5, ...options })
    const routing = { routerThreshold: 0.25, maxRecursions: 2 }
    const common = { maxTokens: 7, temperature: 0.5, topP: 0.9, topK: 5, topLogprobs: 5, ...routing }
    expect(engine.requests.map((request) => request.options)).toEqual([
      { ...common, priority: -3, seed: 40 },
      { ...common, priority: -3, seed: 41 },
    ])
    await post(own.url, { model: 'tiny', prompt: 'p' })
    expect(engine.requests[2]!.options).toEqual({ maxTokens: 16, temperature: 1, topP: 1, topK: 0 })
  })

  it('goes on from nothing with the end token', async () => {
    const { tokens } = await (server.engine as Engine).generate([256], { maxTokens: 4, temperature: 0 }).result
    const { choices, usage } = await client.completions.create({ ...greedy, prompt: '', max_tokens: 4 })
    expect(choices[0]!.text).toBe(Tokenizer.byteLevel().decode(tokens))
    expect(usage!.prompt_tokens).toBe(1)
  })

  it('serves many streams at once as each alone', async () => {
    const prompts = Array.from({ length: 24 }, (_, i) => `${i} times`)
    const texts = await Promise.all(
      prompts.map(async (prompt) => {
        let text = ''
        for await (const chunk of await client.completions.create({ ...greedy, prompt, stream: true }))
          text += chunk.choices[0]!.text
        return text
      }),
    )
    for (const [i, prompt] of prompts.entries()) {
      expect(texts[i]).toBe(Tokenizer.byteLevel().decode((await direct(prompt, {})).tokens))
    }
  })
})

describe('the other routes', () => {
  it('lists the model', async () => {
    const { data } = await client.models.list()
    expect(data).toMatchObject([{ id: 'tiny', object: 'model', owned_by: 'mixture-of-recursions', max_model_len: 256 }])
    expect(await client.models.retrieve('tiny')).toEqual(data[0])
    await expect(client.models.retrieve('other')).rejects.toMatchObject({ status: 404, code: 'model_not_found' })
  })

  it('asks for the key everywhere but at /health', async () => {
    const statuses = await Promise.all(
      ['/health', '/metrics', '/v1/models', '/nowhere'].map(async (path) => (await fetch(server.url + path)).status),
    )
    expect(statuses).toEqual([200, 401, 401, 401])
    const wrong = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'secret2', maxRetries: 0 })
    await expect(wrong.completions.create(greedy)).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' })
    expect((await post(server.url, greedy)).headers.get('www-authenticate')).toBe('Bearer')
  })

  it('lets further routes be added', async () => {
    const { engine } = server
    const app = createServer({ engine, tokenizer: Tokenizer.byteLevel(), modelName: 'tiny', apiKey: 'secret' })
    app.get('/', { config: { public: true } }, () => 'a page')
    app.get('/guarded', () => 'data')
    expect((await app.inject('/')).body).toBe('a page')
    expect((await app.inject('/guarded')).statusCode).toBe(401)
    await app.close()
  })
})

describe('a tokenizer that writes no space at the start of a text', async () => {
  const tokenizer = await loadFamily('llama')
  const ids = tokenizer.encode('there was a', { addSpecialTokens: false })
  const says = () =>
    new ScriptedEngine(({ generation }) => {
      for (const token of ids) generation.push({ token, depth: 1, logprob: -1 })
      generation.finish('stop')
    })
  const ask = { model: 'tiny', prompt: 'Once upon a time,', max_tokens: 3, logprobs: 0 }

  it('keeps the space between prompt and answer: in the text, in a stream, in names and offsets', async () => {
    await using own = await listen({ engine: says(), tokenizer })
    const { completions } = new OpenAI({ baseURL: `${own.url}/v1`, apiKey: 'none needed' })
    const [whole] = (await completions.create(ask)).choices
    expect(whole).toMatchObject({
      text: ' there was a',
      logprobs: { tokens: [' there', ' was', ' a'], text_offset: [0, 6, 10] },
    })
    let streamed = ''
    for await (const chunk of await completions.create({ ...ask, stream: true })) streamed += chunk.choices[0]!.text
    expect(streamed).toBe(' there was a')
    expect((await completions.create({ ...ask, stop: ' there' })).choices[0]).toMatchObject({
      text: '',
      finish_reason: 'stop',
    })
    expect((await completions.create({ ...ask, prompt: '' })).choices[0]!.text).toBe('there was a')
  })
})

describe('a tokenizer with a padding token that the model does not have', async () => {
  const pad = { id: 320, content: '<pad>', single_word: false, lstrip: false, rstrip: false, special: true }
  const tokenizer = await loadFamily('llama', { added_tokens: [...families.llama.added_tokens, pad] })

  it('is served, and a prompt in which the token is written is refused', async () => {
    expect(tokenizer.vocabSize).toBe(321)
    const engine = new ScriptedEngine(answerText('x'))
    await using own = await listen({ engine, tokenizer })
    expect((await post(own.url, { model: 'tiny', prompt: 'a time' })).status).toBe(200)
    const refused = await post(own.url, { model: 'tiny', prompt: 'a <pad> time' })
    expect(refused.status).toBe(400)
    expect(((await refused.json()) as ErrorBody).error).toMatchObject({
      param: 'prompt',
      message: expect.stringContaining('320'),
    })
  })

  it('refuses text that has no token', async () => {
    const { model } = families.endOfWord
    const strict = await loadFamily('endOfWord', { model: { type: 'WordLevel', vocab: model.vocab, unk_token: null } })
    await using own = await listen({ engine: new ScriptedEngine(answerText('x')), tokenizer: strict })
    expect((await post(own.url, { model: 'tiny', prompt: 'a b' })).status).toBe(200)
    const refused = await post(own.url, { model: 'tiny', prompt: 'a bird' })
    expect(refused.status).toBe(400)
    expect(((await refused.json()) as ErrorBody).error.message).toMatch(/no token for "bird"/)
  })

  it('starts from the begin token where the prompt is empty, though a template adds none', async () => {
    const bare = await loadFamily('llama', { post_processor: null })
    const engine = new ScriptedEngine(answerText('x'))
    await using own = await listen({ engine, tokenizer: bare })
    await post(own.url, { model: 'tiny', prompt: ['', 'a'] })
    expect(engine.requests.map(({ prompt }) => prompt)).toEqual([[1], [...bare.encode('a')]])
  })
})

const folder = sharedData('checkpoints/stories260K')
it.skipIf(folder === null)('tells the story that the checkpoint’s own greedy text begins with', async () => {
  await using model = await Model.load(folder!, { dtype: 'float32', device: 'cpu' })
  await using engine = new Engine(model)
  await using stories = await listen({ engine, tokenizer: await Tokenizer.load(folder!), modelName: 'stories' })
  const { completions } = new OpenAI({ baseURL: `${stories.url}/v1`, apiKey: 'none needed' })
  const ask = { model: 'stories', prompt: 'Once upon a time', temperature: 0, max_tokens: 60, stop: 'outside' }
  const { choices } = await completions.create(ask)
  expect(choices[0]).toMatchObject({
    text: ', there was a little girl named Lily. She loved to play ',
    finish_reason: 'stop',
  })
  const comma = { model: 'stories', prompt: 'Once upon a time,', temperature: 0, max_tokens: 4, logprobs: 1 }
  const [choice] = (await completions.create(comma)).choices
  expect(choice).toMatchObject({
    text: ' there was a little',
    logprobs: { tokens: [' there', ' was', ' a', ' little'], text_offset: [0, 6, 10, 12] },
  })
  expect(choice!.logprobs!.top_logprobs!.map((top) => Object.keys(top))).toEqual([
    [' there'],
    [' was'],
    [' a'],
    [' little'],
  ])
})
