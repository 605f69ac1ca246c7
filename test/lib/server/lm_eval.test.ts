// Requests of exactly the shape that lm-evaluation-harness sends, read as it reads them, against whole forward passes.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Engine } from '../../../lib/engine.js'
import { evaluate } from '../../../lib/evaluate.js'
import { Model } from '../../../lib/model.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { sharedData } from '../shared_data.js'
import {
  complete,
  type Likelihood,
  likelihoods,
  likelihoodsByName,
  RemoteTokenizer,
  rollingWindows,
  texts,
} from './lm_eval_client.js'
import { listen, makeTinyModel, type TestServer } from './tiny_model.js'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const folder = sharedData('checkpoints/stories260K')

/** A model and its server. */
interface World {
  model: Model
  engine: Engine
  tokenizer: Tokenizer
  server: TestServer
}

async function open(model: Model, tokenizer: Tokenizer): Promise<World> {
  const engine = new Engine(model)
  return { model, engine, tokenizer, server: await listen({ engine, tokenizer, modelName: 'm' }) }
}

async function close({ model, server }: World): Promise<void> {
  await server[Symbol.asyncDispose]()
  await model.dispose()
}

/** The logits after each token of one sequence. */
async function logitsAfter(model: Model, tokens: readonly number[]): Promise<Float32Array[]> {
  const { logits, shape } = await model.forward([tokens], { routing: 'threshold' })
  return tokens.map((_, i) => logits.subarray(i * shape[2], (i + 1) * shape[2]))
}

const likeliest = (logits: Float32Array) => logits.reduce((best, logit, i) => (logit > logits[best]! ? i : best), 0)

/** What a whole forward pass says of the tokens from index `from` on. */
async function likelihoodAlone(model: Model, tokens: readonly number[], from: number): Promise<Likelihood> {
  const rows = await logitsAfter(model, tokens.slice(0, -1))
  const score = { logprob: 0, greedy: true }
  for (let i = from; i < tokens.length; i++) {
    const row = rows[i - 1]!
    const most = row[likeliest(row)]!
    const total = row.reduce((sum, logit) => sum + Math.exp(logit - most), 0)
    score.logprob += row[tokens[i]!]! - most - Math.log(total)
    score.greedy &&= likeliest(row) === tokens[i]
  }
  return score
}

/** The tokens that a greedy choice appends, by whole forward passes. */
async function greedyTokens(model: Model, prompt: readonly number[], count: number): Promise<number[]> {
  const tokens = [...prompt]
  while (tokens.length < prompt.length + count) tokens.push(likeliest((await logitsAfter(model, tokens)).at(-1)!))
  return tokens.slice(prompt.length)
}

function expectEqual(found: readonly Likelihood[], expected: readonly Likelihood[]): void {
  expect(found.map(({ greedy }) => greedy)).toEqual(expected.map(({ greedy }) => greedy))
  for (const [i, { logprob }] of expected.entries()) expect(Math.abs(found[i]!.logprob - logprob)).toBeLessThan(1e-4)
}

describe.each([
  { name: 'a model with routers over bytes', make: async () => open(await makeTinyModel(), Tokenizer.byteLevel()) },
  ...(folder === null
    ? []
    : [{ name: 'stories260K', make: async () => open(await loadStories(folder), await Tokenizer.load(folder)) }]),
])('$name', ({ make }) => {
  let world: World
  /** Contexts and continuations of several lengths, some of them greedy. */
  let pairs: [number[], number[]][]
  beforeAll(async () => {
    world = await make()
    const { model, tokenizer } = world
    const ids = (text: string) => [...tokenizer.encode(text)]
    const story = ids('Once upon a time, there was a little girl named Lily.')
    pairs = [
      [story.slice(0, -3), story.slice(-3)],
      [story.slice(0, 1), story.slice(1)],
      [ids('Tom had a'), ids(' big red ball').slice(-2)],
    ]
    for (const count of [1, 5]) {
      const context = ids('The sun was')
      pairs.push([context, await greedyTokens(model, context, count)])
    }
  })
  afterAll(() => close(world))

  const whole = () => pairs.map(([context, continuation]) => [...context, ...continuation])
  const contextLengths = () => pairs.map(([context]) => context.length)
  const expected = () =>
    Promise.all(whole().map((tokens, i) => likelihoodAlone(world.model, tokens, contextLengths()[i]!)))

  it('scores continuations in a batch of token arrays, several requests at once', async () => {
    const answers = await Promise.all([
      complete(world.server.url, {
        model: 'm',
        prompt: whole(),
        temperature: 0,
        max_tokens: 1,
        logprobs: 1,
        seed: 1234,
        echo: true,
      }),
      ...whole().map((tokens) =>
        complete(world.server.url, {
          model: 'm',
          prompt: [tokens],
          temperature: 0,
          max_tokens: 1,
          logprobs: 1,
          seed: 1234,
          echo: true,
        }),
      ),
    ])
    const wanted = await expected()
    expect(wanted.some(({ greedy }) => greedy) && wanted.some(({ greedy }) => !greedy)).toBe(true)
    expectEqual(likelihoods(answers[0]!, contextLengths()), wanted)
    const alone = answers.slice(1).flatMap((answer, i) => likelihoods(answer, [contextLengths()[i]!]))
    expectEqual(alone, wanted)
  })

  it('scores them as older versions ask, with max_tokens 0 and ten alternatives', async () => {
    const answer = await complete(world.server.url, {
      model: 'm',
      prompt: whole(),
      echo: true,
      max_tokens: 0,
      temperature: 0,
      logprobs: 10,
      seed: 1234,
    })
    expectEqual(likelihoodsByName(answer, contextLengths()), await expected())
  })

  it('generates greedily up to the first of many texts', async () => {
    const { tokenizer, model, server } = world
    const prompts = ['Once upon a time', 'The sun was'].map((text) => [...tokenizer.encode(text)])
    const full = await Promise.all(
      prompts.map(async (prompt) => {
        const tokens = await greedyTokens(model, prompt, 24)
        return tokenizer.decode([...prompt, ...tokens]).slice(tokenizer.decode(prompt).length)
      }),
    )
    const until = ['\nclass', '\ndef', '\n#', '\nif', '\nprint', Array.from(full[0]!).slice(8, 11).join(''), '</s>']
    const answer = await complete(server.url, {
      prompt: prompts,
      model: 'm',
      max_tokens: 24,
      temperature: 0,
      stop: until,
      seed: 1234,
    })
    const cut = full.map((text) => text.slice(0, Math.min(...until.map((stop) => text.indexOf(stop) >>> 0))))
    expect(cut[0]!.length).toBeLessThan(full[0]!.length)
    expect(texts(answer)).toEqual(cut)
  })

  it('scores a text by windows as evaluate() does', async () => {
    const { tokenizer, model, server } = world
    const text = 'Once upon a time, there was a little dog. He liked to run in the park with a red ball. '.repeat(3)
    const temporary = mkdtempSync(join(tmpdir(), 'mor-lm-eval-'))
    const data = join(temporary, 'text.txt')
    writeFileSync(data, text)
    const most = 50
    const task = { type: 'perplexity', name: 'text', data, length: most, stride: most } as const
    const [result] = await evaluate(model, [task], { tokenizer })
    rmSync(temporary, { recursive: true })

    const plain = [...tokenizer.encode(text, { addSpecialTokens: false })]
    const windows = rollingWindows(plain, tokenizer.bosTokenId ?? tokenizer.eosTokenId!, most)
    const answer = await complete(server.url, {
      model: 'm',
      prompt: windows.map(([context, scored]) => [...context, ...scored]),
      temperature: 0,
      max_tokens: 1,
      logprobs: 1,
      seed: 1234,
      echo: true,
    })
    const found = likelihoods(
      answer,
      windows.map(([context]) => context.length),
    )
    expect(result!.tokens).toBe(plain.length)
    const nats = found.reduce((sum, { logprob }) => sum - logprob, 0)
    expect(Math.abs(nats / plain.length - result!.metrics.loss!.value)).toBeLessThan(1e-4)
  })

  it('takes prompts up to one token less than the context', async () => {
    const context = world.model.config.max_position_embeddings
    const tokens = Array.from({ length: context }, (_, i) => 5 + (i % 90))
    const ask = (prompt: number[]) =>
      complete(world.server.url, {
        model: 'm',
        prompt: [prompt],
        temperature: 0,
        max_tokens: 1,
        logprobs: 1,
        seed: 1234,
        echo: true,
      })
    const longest = tokens.slice(1)
    const [found] = likelihoods(await ask(longest), [context - 4])
    expectEqual([found!], [await likelihoodAlone(world.model, longest, context - 4)])
    await expect(ask(tokens)).rejects.toThrow(/^400: .*context_length_exceeded/)
  })
})

function loadStories(path: string): Promise<Model> {
  return Model.load(path, { dtype: 'float32', device: 'cpu' })
}

describe.skipIf(folder === null)('stories260K', () => {
  it('scores every token where the one that follows ends the text', async () => {
    // As stories260K ends no text by a token of its own, the most likely next token is made one.
    await using original = await loadStories(folder!)
    const tokenizer = await Tokenizer.load(folder!)
    const prompt = [...tokenizer.encode('Once upon a time, there was a little girl')]
    const [next] = await greedyTokens(original, prompt, 1)
    const copy = mkdtempSync(join(tmpdir(), 'mor-lm-eval-'))
    cpSync(folder!, copy, { recursive: true })
    const config = JSON.parse(readFileSync(join(folder!, 'config.json'), 'utf8'))
    writeFileSync(join(copy, 'config.json'), JSON.stringify({ ...config, eos_token_id: [2, next] }))
    const world = await open(await loadStories(copy), tokenizer)
    const answer = await complete(world.server.url, {
      model: 'm',
      prompt: [prompt, prompt.slice(0, -1)],
      temperature: 0,
      max_tokens: 1,
      logprobs: 1,
      seed: 1234,
      echo: true,
    })
    await close(world)
    rmSync(copy, { recursive: true })
    const [ended] = answer.choices
    expect(ended).toMatchObject({ finish_reason: 'stop', text: tokenizer.decode(prompt) })
    expect(ended!.logprobs!.tokens).toHaveLength(prompt.length + 1)
    const lengths = [3, 3]
    expectEqual(likelihoods(answer, lengths), [
      await likelihoodAlone(original, prompt, 3),
      await likelihoodAlone(original, prompt.slice(0, -1), 3),
    ])
  })

  it('has the tokenizer for clients without one, and takes texts of them', async () => {
    const tokenizer = await Tokenizer.load(folder!)
    const world = await open(await loadStories(folder!), tokenizer)
    const remote = await RemoteTokenizer.connect(`${world.server.url}/v1/completions`)
    const text = 'Once upon a time, there was a dog.'
    const tokens = await remote.encode(text)
    expect(tokens).toEqual([...tokenizer.encode(text, { addSpecialTokens: false })])
    expect(await remote.decode(tokens)).toBe(text)
    expect(await remote.prefixToken()).toBe(tokenizer.bosTokenId)
    expect(await remote.encode(remote.info.eos_token!)).toEqual([tokenizer.eosTokenId])

    // Untokenised requests: one text, or a list in a batch. The server begins each with the begin token.
    const ask = (prompt: string | string[]) =>
      complete(world.server.url, {
        model: 'm',
        prompt,
        temperature: 0,
        max_tokens: 1,
        logprobs: 1,
        seed: 1234,
        echo: true,
      })
    const wanted = await likelihoodAlone(world.model, [tokenizer.bosTokenId!, ...tokens], 4)
    expectEqual(likelihoods(await ask(text), [4]), [wanted])
    expectEqual(likelihoods(await ask([text, text]), [4, 4]), [wanted, wanted])
    await close(world)
  })
})
