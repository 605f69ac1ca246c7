// The public Engine over the real addon: many requests at once, aborts in the middle of a prompt, equal beginnings,
// priorities. The addon must have been built.
import { afterAll, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Engine } from '../../lib/engine.js'
import { Model } from '../../lib/model.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { Trainer } from '../../lib/trainer.js'
import { patternTokens } from './addon_support.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const config: ModelConfig = {
  vocab_size: 48,
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 512,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}
const model = await Model.create(config, { device: 'cpu', dtype: 'float32', seed: 3 })
afterAll(() => model.dispose())

it('serves 2000 requests at once, each as if it were alone', async () => {
  await using engine = new Engine(model, { maxBatchSize: 32 })
  const requests = Array.from({ length: 2000 }, (_, i) => ({
    prompt: patternTokens(40).slice(i % 13, (i % 13) + 1 + (i % 23)),
    options: { maxTokens: 1 + (i % 5), temperature: i % 2, seed: i, priority: i % 3, topLogprobs: i % 4 },
  }))
  const results = await Promise.all(requests.map(({ prompt, options }) => engine.generate(prompt, options).result))
  expect(engine.stats()).toMatchObject({ running: 0, waiting: 0, finished: 2000, kvBlocksUsed: 0 })
  expect(
    results.every(({ tokens, finishReason }, i) => finishReason === 'length' && tokens.length === 1 + (i % 5)),
  ).toBe(true)
  await using cold = new Engine(model, { prefixCache: false })
  for (const i of [0, 1, 777, 1234, 1999]) {
    expect(results[i]).toEqual(await cold.generate(requests[i]!.prompt, requests[i]!.options).result)
  }
})

it('ends at once when it is aborted in the middle of a prompt', async () => {
  // Large enough for a step to take longer than a turn of the event loop.
  const large = { ...config, vocab_size: 512, hidden_size: 256, intermediate_size: 704, num_attention_heads: 4 }
  await using slow = await Model.create(large, { device: 'cpu', dtype: 'float32', seed: 3 })
  await using engine = new Engine(slow, { prefillChunk: 1 })
  const controller = new AbortController()
  const generation = engine.generate(patternTokens(500), { maxTokens: 5, signal: controller.signal })
  while (engine.stats().steps < 10) await new Promise((resolve) => setImmediate(resolve))
  controller.abort()
  expect(await generation.result).toMatchObject({ tokens: [], finishReason: 'abort' })
  const { promptTokens, ...stats } = engine.stats()
  expect(promptTokens).toBeLessThan(250)
  expect(stats).toMatchObject({ running: 0, waiting: 0, kvBlocksUsed: 0 })
})

it('tells its figures before the first request, too', async () => {
  await using engine = new Engine(model)
  expect(engine.stats()).toMatchObject({ running: 0, waiting: 0, steps: 0, kvBlocksUsed: 0, depthHistogram: [0, 0, 0] })
})

it('computes an equal beginning once, and again after the weights have changed', async () => {
  await using own = await Model.create(config, { device: 'cpu', dtype: 'float32', seed: 4 })
  await using engine = new Engine(own)
  const prompt = patternTokens(200)
  const options = { maxTokens: 8, temperature: 0 }
  const first = await engine.generate(prompt, options).result
  expect(engine.stats()).toMatchObject({ promptTokens: 200, prefixHitTokens: 0 })
  expect(await engine.generate(prompt, options).result).toEqual(first)
  const { promptTokens, prefixHitTokens } = engine.stats()
  expect(promptTokens).toBe(400)
  expect(prefixHitTokens).toBeGreaterThanOrEqual(176)

  await using trainer = new Trainer(own, { learningRate: 0.01 })
  await trainer.step([patternTokens(33)])
  await using cold = new Engine(own)
  expect(await engine.generate(prompt, options).result).toEqual(await cold.generate(prompt, options).result)
  expect(engine.stats().prefixHitTokens).toBe(prefixHitTokens)
})

it('lets a request of higher priority pass those that wait', async () => {
  await using engine = new Engine(model, { maxBatchSize: 1, prefixCache: false })
  const ended: string[] = []
  const start = (name: string, maxTokens: number, priority: number) =>
    engine.generate(patternTokens(20), { maxTokens, priority }).result.then(() => ended.push(name))
  const low = ['a', 'b', 'c', 'd'].map((name) => start(name, 400, 0))
  await Promise.all([...low, start('urgent', 20, 5)])
  // The first one may have come a long way by the time at which the last one is asked for.
  expect(ended.filter((name) => name !== 'a')).toEqual(['urgent', 'b', 'c', 'd'])
})

it('takes text and gives text, up to a stop text, with tokens as of the encoded prompt', async () => {
  const tokenizer = Tokenizer.byteLevel()
  const shape = { ...config, vocab_size: tokenizer.vocabSize, tie_word_embeddings: false, initializer_range: 0.2 }
  await using speaking = await Model.create(shape, { tokenizer, device: 'cpu', dtype: 'float32', seed: 4 })
  await using engine = new Engine(speaking)
  const options = { maxTokens: 40, temperature: 1, seed: 6, ignoreEos: true }
  const byTokens = await engine.generate(tokenizer.encode('né'), options).result
  const byText = engine.generate('né', options)
  const pieces: string[] = []
  for await (const piece of byText.text()) pieces.push(piece)
  const { text, tokens } = await byText.result
  expect(tokens).toEqual(byTokens.tokens)
  expect(text).toBe(tokenizer.decode(tokens))
  expect(pieces.join('')).toBe(text)
  const stop = text!.slice(10, 13)
  const stopped = await engine.generate('né', { ...options, stop }).result
  expect(stopped).toMatchObject({ text: text!.slice(0, text!.indexOf(stop)), finishReason: 'stop' })
  expect(stopped.tokens.length).toBeLessThan(40)
  await expect.poll(() => engine.stats().running).toBe(0)
})

it('serves from several engines at once, of one model and of two, as from each alone', async () => {
  await using other = await Model.create(config, { device: 'cpu', dtype: 'float32', seed: 9, threads: 2 })
  const prompts = Array.from({ length: 12 }, (_, i) => patternTokens(30).slice(i))
  const ask = (engine: Engine) =>
    Promise.all(prompts.map((prompt, seed) => engine.generate(prompt, { maxTokens: 30, seed }).result))
  const alone: Awaited<ReturnType<typeof ask>>[] = []
  for (const owner of [model, other]) {
    await using engine = new Engine(owner)
    alone.push(await ask(engine))
  }
  expect(alone[0]).not.toEqual(alone[1])
  await using first = new Engine(model)
  await using second = new Engine(model, { maxBatchSize: 4, prefillChunk: 8 })
  await using third = new Engine(other)
  const together = await Promise.all([first, second, third].map(ask))
  expect(together).toEqual([alone[0], alone[0], alone[1]])
  await first.close()
  expect([await ask(second), await ask(third)]).toEqual(alone)
})

it('knows when a request waited, began, and had its first token', async () => {
  await using engine = new Engine(model, { maxBatchSize: 1, prefixCache: false })
  // So many that the last one waits much longer than a busy process takes to hear of the first tokens.
  const requests = Array.from({ length: 12 }, (_, seed) => engine.generate(patternTokens(40), { maxTokens: 60, seed }))
  expect(requests.at(-1)!.timing).toMatchObject({
    submitted: expect.any(Number),
    began: null,
    firstToken: null,
    ended: null,
  })
  await Promise.all(requests.map(({ result }) => result))
  const timings = requests.map(({ timing }) => timing)
  for (const { submitted, began, firstToken, ended } of timings) {
    const order = [submitted, began, firstToken, ended] as number[]
    expect(order).toEqual(order.toSorted((a, b) => a - b))
  }
  // With room for two sequences the others wait for one of them to end.
  expect(timings.at(-1)!.began).toBeGreaterThan(Math.min(timings[0]!.firstToken!, timings[1]!.firstToken!))
  const aborted = engine.generate(patternTokens(40), { maxTokens: 60, signal: AbortSignal.abort() })
  await aborted.result
  expect(aborted.timing).toMatchObject({ submitted: null, began: null, firstToken: null, ended: expect.any(Number) })
})
