// Completions that begin with their prompt, and that choose the best of several, against a scripted engine.
import { expect, it } from 'vitest'
import { echoOf } from '../../../lib/server/echo.js'
import type { Completion } from '../../../lib/server/index.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { answerText, ScriptedEngine, type ScriptedRequest } from './scripted_engine.js'
import { listen, post } from './tiny_model.js'

async function ask(url: string, fields: object): Promise<Completion> {
  const response = await post(url, { model: 'tiny', ...fields })
  expect(response.status).toBe(200)
  return (await response.json()) as Completion
}

/** The chunks of a stream put together, by choice. */
async function askStream(url: string, fields: object) {
  const response = await post(url, { model: 'tiny', stream: true, ...fields })
  const events = (await response.text()).split('\n\n').filter((line) => line.startsWith('data: {'))
  const choices: Record<number, { pieces: string[]; tokens: string[]; offsets: number[] }> = {}
  for (const event of events) {
    const {
      choices: [choice],
    } = JSON.parse(event.slice(6)) as Completion
    choices[choice!.index] ??= { pieces: [], tokens: [], offsets: [] }
    const joined = choices[choice!.index]!
    joined.pieces.push(choice!.text)
    joined.tokens.push(...(choice!.logprobs?.tokens ?? []))
    joined.offsets.push(...(choice!.logprobs?.text_offset ?? []))
  }
  return choices
}

const engine = new ScriptedEngine(answerText('xyz'))

it('puts the prompt before the text, each prompt before its own choices', async () => {
  await using server = await listen({ engine })
  const { choices } = await ask(server.url, { prompt: ['é 1', 'b'], n: 2, echo: true })
  expect(choices.map(({ text }) => text)).toEqual(['é 1xyz', 'é 1xyz', 'bxyz', 'bxyz'])
  expect(choices[0]!.logprobs).toBeNull()
  const ofTokens = await ask(server.url, { prompt: [[104, 105], [33]], echo: true })
  expect(ofTokens.choices.map(({ text }) => text)).toEqual(['hixyz', '!xyz'])
  expect((await askStream(server.url, { prompt: 'é 1', echo: true }))[0]!.pieces).toEqual(['é 1', 'x', 'y', 'z', ''])
})

it('gives the log-probabilities of the prompt too, the first of them null, and offsets in the whole text', async () => {
  await using server = await listen({ engine })
  const { choices } = await ask(server.url, { prompt: 'aé', echo: true, logprobs: 1, n: 2 })
  const [a, first, second] = [...Buffer.from('aé')]
  const expected = {
    tokens: ['a', '', 'é', 'x', 'y', 'z'],
    token_logprobs: [null, first! / -128, second! / -128, -120 / 128, -121 / 128, -122 / 128],
    top_logprobs: [
      null,
      { '': first! / -128 },
      { é: second! / -128 },
      { x: -120 / 128 },
      { y: -121 / 128 },
      { z: -122 / 128 },
    ],
    text_offset: [0, 1, 1, 2, 3, 4],
  }
  expect(a).toBe(97)
  expect(choices.map(({ logprobs }) => logprobs)).toEqual([expected, expected])
  const bare = await ask(server.url, { prompt: 'aé', echo: true, logprobs: 0 })
  expect(bare.choices[0]!.logprobs).toEqual({ ...expected, top_logprobs: null })
  const streamed = await askStream(server.url, { prompt: 'aé', echo: true, logprobs: 1, n: 2 })
  for (const index of [0, 1]) {
    expect(streamed[index]).toMatchObject({ tokens: expected.tokens, offsets: expected.text_offset })
  }
})

it('lists the stop token after all others, by its name, outside of the text', async () => {
  const own = new ScriptedEngine(({ prompt, generation }) => {
    for (const token of prompt.slice(1)) generation.pushPrompt({ token, depth: 1, logprob: -1 })
    const topLogprobs = [{ token: 256, logprob: -0.5 }]
    generation.stop({ token: 256, depth: 1, logprob: -0.5, topLogprobs })
  })
  await using server = await listen({ engine: own })
  const ask1 = { prompt: 'ab', echo: true, logprobs: 1, max_tokens: 1 }
  const { choices, usage } = await ask(server.url, ask1)
  expect(choices[0]).toMatchObject({
    text: 'ab',
    finish_reason: 'stop',
    logprobs: {
      tokens: ['a', 'b', '<|endoftext|>'],
      token_logprobs: [null, -1, -0.5],
      text_offset: [0, 1, 2],
    },
  })
  expect(choices[0]!.logprobs!.top_logprobs![2]).toEqual({ '<|endoftext|>': -0.5 })
  expect(usage!.completion_tokens).toBe(0)
  expect((await askStream(server.url, ask1))[0]).toEqual({
    pieces: ['ab', ''],
    tokens: ['a', 'b', '<|endoftext|>'],
    offsets: [0, 1, 2],
  })
})

it('asks the engine for the prompt once for all choices of it', async () => {
  const own = new ScriptedEngine(answerText('x'))
  await using server = await listen({ engine: own })
  await ask(server.url, { prompt: ['a', 'b'], n: 2, best_of: 3, echo: true, logprobs: 2 })
  const asked = own.requests.map(({ options }) => options.promptLogprobs)
  expect(asked).toEqual([2, undefined, undefined, 2, undefined, undefined])
})

it('only scores the prompt with max_tokens 0', async () => {
  const own = new ScriptedEngine(answerText('', 'length'))
  await using server = await listen({ engine: own })
  const { choices, usage } = await ask(server.url, { prompt: 'abc', echo: true, logprobs: 0, max_tokens: 0 })
  expect(choices[0]).toMatchObject({ text: 'abc', finish_reason: 'length' })
  expect(choices[0]!.logprobs!.token_logprobs).toEqual([null, -98 / 128, -99 / 128])
  expect(usage).toEqual({ prompt_tokens: 3, completion_tokens: 0, total_tokens: 3 })
  expect((await ask(server.url, { prompt: 'abc', echo: true, max_tokens: 0 })).choices[0]!.text).toBe('abc')
  expect(own.requests.map(({ options }) => [options.maxTokens, options.promptLogprobs])).toEqual([
    [0, 0],
    [0, 0],
  ])
})

it('answers with the best of more completions, the best first, and counts the tokens of all', async () => {
  // A byte has the log-probability of minus itself / 128: of these texts 'AA' has the highest mean, then 'ABCDEF'.
  const texts = ['zz', 'ABCDEF', 'AA', 'a', 'm', 'nnn', '0', 'o']
  const own = new ScriptedEngine((request: ScriptedRequest) =>
    answerText(texts[own.requests.indexOf(request)]!)(request),
  )
  await using server = await listen({ engine: own })
  const { choices, usage } = await ask(server.url, { prompt: ['p', 'q'], n: 2, best_of: 4, seed: 5 })
  expect(choices.map(({ index, text }) => [index, text])).toEqual([
    [0, 'AA'],
    [1, 'ABCDEF'],
    [2, '0'],
    [3, 'm'],
  ])
  expect(usage).toMatchObject({ prompt_tokens: 2, completion_tokens: texts.join('').length })
  expect(own.requests.map(({ options }) => options.seed)).toEqual([5, 6, 7, 8, 9, 10, 11, 12])
})

it('chooses the best by the tokens of the answer, and not by those that the engine had computed behind a stop text', async () => {
  const texts = ['A.zzzz', 'B.AAAA']
  const own: ScriptedEngine = new ScriptedEngine((request) =>
    answerText(texts[own.requests.indexOf(request)]!)(request),
  )
  await using server = await listen({ engine: own })
  const { choices } = await ask(server.url, { prompt: 'p', best_of: 2, stop: '.' })
  expect(choices.map(({ text }) => text)).toEqual(['A'])
})

it('leaves the event loop to others while it makes the texts of a long prompt', async () => {
  const prompt = Array.from('abcd'.repeat(2500), (letter) => letter.charCodeAt(0))
  let turns = 0
  const count = () => {
    turns++
    pending = setImmediate(count)
  }
  let pending = setImmediate(count)
  const reported = prompt.map((token) => ({ token, depth: 1, logprob: -1 }))
  const { text, tokens } = await echoOf(Tokenizer.byteLevel(), prompt, prompt, reported)
  clearImmediate(pending)
  expect(turns).toBeGreaterThan(50)
  expect(tokens.map((token) => token.text).join('')).toBe(text)
  expect(tokens.at(-1)).toEqual({ token: 100, text: 'd', offset: 9999, logprob: -1, topLogprobs: null })
})
