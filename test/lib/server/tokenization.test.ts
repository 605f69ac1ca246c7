// /tokenize, /detokenize and /tokenizer_info: what they answer, and what they refuse.
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Tokenizer } from '../../../lib/tokenizer.js'
import { templateOf } from '../chat/load_template.js'
import { turns } from '../chat/templates.js'
import { loadFamily } from '../tokenizer/families.js'
import { ScriptedEngine } from './scripted_engine.js'
import { listen, type TestServer } from './tiny_model.js'

let server: TestServer
let tokenizer: Tokenizer
beforeAll(async () => {
  tokenizer = await loadFamily('llama')
  server = await listen({ engine: new ScriptedEngine(), tokenizer, apiKey: 'secret', maxPromptCharacters: 100 })
})
afterAll(() => server[Symbol.asyncDispose]())

async function ask(path: string, body: object): Promise<{ status: number; json: Record<string, unknown> }> {
  const headers = { 'content-type': 'application/json', authorization: 'Bearer secret' }
  const response = await fetch(server.url + path, { method: 'POST', headers, body: JSON.stringify(body) })
  return { status: response.status, json: (await response.json()) as Record<string, unknown> }
}

const text = 'Once upon a time, there was'

it('gives the tokens of a text, with and without those around it', async () => {
  const whole = Array.from(tokenizer.encode(text))
  const bare = Array.from(tokenizer.encode(text, { addSpecialTokens: false }))
  expect(whole).not.toEqual(bare)
  const max_model_len = 64
  expect(await ask('/tokenize', { model: 'tiny', prompt: text })).toEqual({
    status: 200,
    json: { count: whole.length, max_model_len, tokens: whole, token_strs: null },
  })
  const { json } = await ask('/tokenize', { prompt: text, add_special_tokens: false, return_token_strs: true })
  expect(json).toMatchObject({ count: bare.length, tokens: bare })
  expect(json.token_strs).toEqual(bare.map((token) => tokenizer.decode([token])))
  expect((await ask('/tokenize', { prompt: '', add_special_tokens: false })).json).toMatchObject({
    count: 0,
    tokens: [],
  })
})

it('gives the text of tokens', async () => {
  const tokens = Array.from(tokenizer.encode(text))
  const prompt = tokenizer.decode(tokens, { skipSpecialTokens: false })
  expect(prompt.startsWith('<s>')).toBe(true)
  expect(await ask('/detokenize', { tokens })).toEqual({ status: 200, json: { prompt } })
  expect((await ask('/detokenize', { tokens: [] })).json).toEqual({ prompt: '' })
})

it('names the begin and the end token as /tokenize reads them', async () => {
  const headers = { authorization: 'Bearer secret' }
  const response = await fetch(`${server.url}/tokenizer_info`, { headers })
  expect(response.status).toBe(200)
  expect(await response.json()).toEqual({
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: '<s>',
    eos_token: '</s>',
    chat_template: null,
  })
  const ids = { '<s>': tokenizer.bosTokenId, '</s>': tokenizer.eosTokenId }
  for (const [prompt, id] of Object.entries(ids))
    expect((await ask('/tokenize', { prompt, add_special_tokens: false })).json).toMatchObject({ tokens: [id] })
})

it('gives the source of the chat template, and no begin token where there is none', async () => {
  const chatTemplate = await templateOf(turns)
  await using bytes = await listen({ engine: new ScriptedEngine(), chatTemplate })
  expect(await (await fetch(`${bytes.url}/tokenizer_info`)).json()).toMatchObject({
    bos_token: null,
    eos_token: '<|endoftext|>',
    chat_template: chatTemplate.source,
  })
})

it.each([
  ['/tokenize', { prompt: 5 }, 400, 'prompt'],
  ['/tokenize', { prompt: [1, 2] }, 400, 'prompt'],
  ['/tokenize', {}, 400, 'prompt'],
  ['/tokenize', { prompt: 'x'.repeat(101) }, 400, 'prompt'],
  ['/tokenize', { prompt: '1'.repeat(100), return_token_strs: true }, 400, 'prompt'],
  ['/tokenize', { prompt: 'a', add_special_tokens: 'no' }, 400, 'add_special_tokens'],
  ['/tokenize', { prompt: 'a', model: 'gpt' }, 404, 'model'],
  ['/detokenize', {}, 400, 'tokens'],
  ['/detokenize', { tokens: 'abc' }, 400, 'tokens'],
  ['/detokenize', { tokens: [1, -1] }, 400, 'tokens'],
  ['/detokenize', { tokens: [320] }, 400, 'tokens'],
  ['/detokenize', { tokens: [0.5] }, 400, 'tokens'],
  ['/detokenize', { tokens: Array(65).fill(1) }, 400, 'tokens'],
])('%s refuses %j', async (path, body, status, param) => {
  expect(await ask(path, body)).toMatchObject({ status, json: { error: { param } } })
})

it('wants the key', async () => {
  const response = await fetch(`${server.url}/tokenize`, { method: 'POST', body: '{}' })
  expect(response.status).toBe(401)
})
