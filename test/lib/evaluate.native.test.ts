// evaluate() by the real addon: equal to an independent implementation on a real checkpoint, and to whole sequences scored alone
// on models with routers. The addon must have been built.
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { Engine } from '../../lib/engine.js'
import { type EvaluationOptions, type EvaluationProgress, evaluate, type TaskResult } from '../../lib/evaluate.js'
import { type EvaluationTask, readTasks } from '../../lib/evaluation/tasks.js'
import { Model } from '../../lib/model.js'
import { byte, config, folder, lines, mor } from './evaluated_model.js'
import { sharedData } from './shared_data.js'

vi.setConfig({ testTimeout: 120_000 })

const fixtures = 'test/fixtures/evaluation'
const stories = sharedData('checkpoints/stories260K')
describe.skipIf(stories === null)('stories260K', () => {
  it.each(['threshold', 'topk'] as const)(
    'gives the numbers of an independent implementation under %s',
    async (routing) => {
      const expected = JSON.parse(readFileSync(join(fixtures, 'expected.json'), 'utf8'))
      await using model = await Model.load(stories!, { dtype: 'float32', device: 'cpu' })
      const results = await evaluate(model, await readTasks(join(fixtures, 'tasks.json')), { routing })
      expect(results.map(({ task }) => task)).toEqual(Object.keys(expected))
      for (const { task, metrics } of results) {
        expect(Object.keys(metrics)).toEqual(Object.keys(expected[task]))
        for (const [name, { value, standardError }] of Object.entries(metrics)) {
          const wanted = expected[task][name]
          expect(Math.abs(value / wanted.value - 1), `${task}, ${name}`).toBeLessThan(1e-4)
          expect(Math.abs(standardError! / wanted.standardError - 1), `${task}, error of ${name}`).toBeLessThan(1e-4)
        }
      }
    },
  )
})

/** The log-probability of each token but the first, and whether it is the likeliest, of one sequence alone. */
async function scoresAlone(tokens: number[], options: EvaluationOptions) {
  const { logits, shape } = await mor.forward([tokens.slice(0, -1)], options)
  return tokens.slice(1).map((token, i) => {
    const row = logits.subarray(i * shape[2], (i + 1) * shape[2])
    const most = row.reduce((a, b) => Math.max(a, b))
    const sum = row.reduce((total, logit) => total + Math.exp(logit - most), 0)
    return { logprob: row[token]! - most - Math.log(sum), greedy: row.indexOf(most) === token }
  })
}

describe.each<EvaluationOptions>([
  { routing: 'threshold' },
  { routing: 'topk' },
  { routing: 'threshold', routerThreshold: 0.52 },
  { routing: 'threshold', maxRecursions: 1 },
])('%j', (options) => {
  const ids = (text: string) => [...byte.encode(text)]

  it('scores choices after one context as each alone', async () => {
    const examples = Array.from({ length: 12 }, (_, i) => ({
      query: `${'The more there is of it, the '.slice(i)} ${i}`,
      choices: ['better', `worse ${i}`, 'same'],
      gold: i % 3,
    }))
    const task: EvaluationTask = { type: 'multiple_choice', name: 'choices', data: lines('choices.jsonl', examples) }
    const [result] = await evaluate(mor, [task], options)
    let right = 0
    let rightByLength = 0
    let tokens = 0
    for (const { query, choices, gold } of examples) {
      const sums: number[] = []
      for (const choice of choices) {
        const continuation = ids(` ${choice}`).length
        tokens += continuation
        const scores = (await scoresAlone(ids(`${query} ${choice}`), options)).slice(-continuation)
        sums.push(scores.reduce((sum, { logprob }) => sum + logprob, 0))
      }
      if (sums.indexOf(Math.max(...sums)) === gold) right++
      const byLength = sums.map((sum, i) => sum / choices[i]!.length)
      if (byLength.indexOf(Math.max(...byLength)) === gold) rightByLength++
    }
    expect(result).toMatchObject({ ...options, type: 'multiple_choice', examples: 12, tokens, cut: 0, fewShot: 0 })
    expect(result!.metrics.accuracy!.value).toBeCloseTo(right / 12, 10)
    expect(result!.metrics.accuracyNorm!.value).toBeCloseTo(rightByLength / 12, 10)
  })

  it('scores last words, and cuts what is longer than the context from the left', async () => {
    const contexts = ['short', 'x'.repeat(150), 'y'.repeat(92), 'z'.repeat(93), 'w'.repeat(94)]
    const data = lines(
      'last.jsonl',
      contexts.map((context) => ({ context, continuation: 'yes' })),
    )
    const [result] = await evaluate(mor, [{ type: 'last_word', name: 'last', data }], options)
    const logprobs: number[] = []
    for (const context of contexts) {
      const tokens = ids(`${context} yes`).slice(-97)
      const scores = (await scoresAlone(tokens, options)).slice(-4)
      logprobs.push(scores.reduce((sum, { logprob }) => sum + logprob, 0))
    }
    expect(result!.cut).toBe(2)
    const mean = logprobs.reduce((sum, logprob) => sum + logprob, 0) / contexts.length
    expect(result!.metrics.perplexity!.value / Math.exp(-mean)).toBeCloseTo(1, 4)
  })

  it('reads a text through windows', async () => {
    const text = 'A text that is longer than one window, with an é and a ß, and then goes on for a while.'
    const path = join(folder, 'text.txt')
    writeFileSync(path, text)
    const task: EvaluationTask = { type: 'perplexity', name: 'text', data: [path, path], length: 40, stride: 10 }
    const [result] = await evaluate(mor, [task], options)
    const tokens = [byte.bosTokenId ?? byte.eosTokenId!, ...byte.encode(text)]
    const last = tokens.length - 1
    let nats = 0
    for (let done = 0, end = 40; done < last; end = Math.min(end + 10, last)) {
      const scores = await scoresAlone(tokens.slice(end - 40, end + 1), options)
      for (const { logprob } of scores.slice(done - end)) nats -= logprob
      done = end
    }
    expect(result).toMatchObject({ examples: 2, tokens: 2 * last })
    expect(result!.metrics.loss!.value).toBeCloseTo(nats / last, 4)
    expect(result!.metrics.bitsPerByte!.value).toBeCloseTo(nats / Math.LN2 / Buffer.byteLength(text), 4)
    expect(result!.metrics.loss!.standardError).toBeCloseTo(0, 6)
  })
})

it('computes a context once for all of its choices, and few-shot examples once for all queries', async () => {
  const query = (i: number) => ({ query: `${'context '.repeat(4)}${i}`, choices: ['a', 'b', 'c'], gold: 0 })
  const data = lines('shared.jsonl', [query(0), query(1), query(2)])
  const hits: number[] = []
  const close = Engine.prototype.close
  const spy = vi.spyOn(Engine.prototype, 'close').mockImplementation(function (this: Engine) {
    hits.push(this.stats().prefixHitTokens)
    return close.call(this)
  })
  const warnings: string[] = []
  const onWarning = ({ name }: Error) => warnings.push(name)
  process.on('warning', onWarning)
  const task: EvaluationTask = { type: 'multiple_choice', name: 'shared', data, fewShot: 1 }
  await evaluate(mor, [task])
  await evaluate(mor, [task], { routing: 'topk' })
  spy.mockRestore()
  process.off('warning', onWarning)
  expect(warnings).toEqual([])
  // Contexts of about 70 tokens. Two of three choices find theirs but for the last chunk.
  expect(hits).toHaveLength(1)
  expect(hits[0]).toBeGreaterThan(6 * 48)
})

describe('tasks after the first', () => {
  const first: EvaluationTask = { type: 'minimal_pairs', name: 'pairs', data: '' }
  const progress: unknown[] = []
  const results: TaskResult[] = []
  const withFirst = (...others: EvaluationTask[]) =>
    evaluate(mor, [first, ...others], {
      onProgress: (now) => progress.push(now),
      onResult: (result) => results.push(result),
    })
  beforeAll(() => {
    first.data = lines('pairs.jsonl', [
      { good: 'It is.', bad: 'It are.' },
      { good: 'I am.', bad: 'I is.' },
    ])
  })
  beforeEach(() => {
    progress.length = 0
    results.length = 0
  })

  it('leave its progress and result when they fail while they are computed', async () => {
    const data = lines('long_pairs.jsonl', [{ good: 'It is.', bad: 'x'.repeat(200) }])
    await expect(withFirst({ type: 'minimal_pairs', name: 'long', data })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: `${data}, line 1: 200 tokens are to be scored; the context of the model holds 96: shorten the text, or leave the line out`,
    })
    expect(progress).toEqual([
      { task: 'pairs', done: 1, total: 2, tokens: expect.any(Number) },
      { task: 'pairs', done: 2, total: 2, tokens: 23 },
    ])
    expect(results).toMatchObject([{ task: 'pairs', examples: 2, metrics: { accuracy: {} } }])
  })

  const broken = (examples: unknown[]) => lines('broken.jsonl', examples)
  const missing = '/nowhere/missing.jsonl'
  it.each<[string, () => object, string, RegExp]>([
    [
      'an example is wrong',
      () => ({ type: 'minimal_pairs', data: broken([{ good: 'a', bad: 'b' }, { good: 'a' }]) }),
      'INVALID_ARGUMENT',
      /broken.jsonl, line 2: bad is missing; it must be a text that is not empty/,
    ],
    ['a file is missing', () => ({ type: 'last_word', data: missing }), 'IO_ERROR', /missing.jsonl/],
    [
      'a text is missing',
      () => ({ type: 'perplexity', data: [broken([{ text: 'a b' }]), missing] }),
      'IO_ERROR',
      /missing.jsonl/,
    ],
    ['a text is a folder', () => ({ type: 'perplexity', data: folder }), 'IO_ERROR', /is a folder|directory/],
    [
      'the key of a text is another',
      () => ({ type: 'perplexity', data: broken([{ title: 'a b' }]) }),
      'INVALID_ARGUMENT',
      /no string under "text"/,
    ],
    [
      'a window is too long',
      () => ({ type: 'perplexity', data: broken([{ text: 'a b' }]), length: 97 }),
      'CONTEXT_OVERFLOW',
      /length is 97; the context of the model holds 96: give at most that, or leave length out$/,
    ],
    [
      'a stride is too long for the context',
      () => ({ type: 'perplexity', data: broken([{ text: 'a b' }]), stride: 97 }),
      'INVALID_ARGUMENT',
      /stride is 97, and length 96, which is the context of the model; give a stride of at most that$/,
    ],
    [
      'a name is taken',
      () => ({ type: 'perplexity', data: broken([{ text: 'a b' }]), name: 'pairs' }),
      'INVALID_ARGUMENT',
      /tasks 1 and 2 have the name "pairs", by which results are told apart; give each its own/,
    ],
  ])('are refused before it is computed when %s', async (_, task, code, message) => {
    const running = withFirst({ name: 'second', ...task() } as EvaluationTask)
    await expect(running).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    expect(progress).toEqual([])
    expect(results).toEqual([])
  })
})

it.skipIf(process.platform === 'win32')('reads the whole of a text that comes through a pipe', async () => {
  const path = join(folder, 'pipe')
  execFileSync('mkfifo', [path])
  const writing = writeFile(path, 'A text that can be read once only.')
  const [result] = await evaluate(mor, [{ type: 'perplexity', name: 'pipe', data: path }])
  await writing
  expect(result!.tokens).toBe('A text that can be read once only.'.length)
})

it('reports the tokens of one long document while it goes on', async () => {
  const path = join(folder, 'long.txt')
  writeFileSync(path, 'A line of a long text.\n'.repeat(1000))
  const progress: EvaluationProgress[] = []
  await evaluate(mor, [{ type: 'perplexity', name: 'long', data: path, stride: 96 }], {
    onProgress: (now) => progress.push(now),
  })
  expect(progress.length).toBeGreaterThan(3)
  const tokens = progress.map((now) => now.tokens)
  expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b))
  expect(progress.at(-1)).toEqual({ task: 'long', done: 1, total: null, tokens: 23_000 })
})

it.each<EvaluationTask>([
  { type: 'perplexity', name: 'long', data: '' },
  { type: 'last_word', name: 'long', data: '' },
])('names the task that was aborted: %j', async (task) => {
  const data = lines(
    'abort.jsonl',
    Array.from({ length: 500 }, () => ({ text: 'some words '.repeat(20) })),
  )
  const controller = new AbortController()
  const running = evaluate(mor, [{ ...task, data }], {
    routing: 'topk',
    signal: controller.signal,
    onProgress: () => controller.abort(),
  })
  await expect(running).rejects.toMatchObject({ code: 'ABORTED', message: 'task long was aborted' })
})

it('ends at once when it is aborted, and the model goes on', async () => {
  const data = lines(
    'many.jsonl',
    Array.from({ length: 500 }, (_, i) => ({ context: 'a'.repeat(90), continuation: `b${i}` })),
  )
  const controller = new AbortController()
  let after = 0
  const running = evaluate(mor, [{ type: 'last_word', name: 'many', data }], {
    signal: controller.signal,
    onProgress: () => {
      if (controller.signal.aborted) after++
      controller.abort(new Error('enough'))
    },
  })
  await expect(running).rejects.toMatchObject({
    code: 'ABORTED',
    cause: expect.objectContaining({ message: 'enough' }),
  })
  expect(after).toBeLessThan(100)
  await expect(
    evaluate(mor, [{ type: 'last_word', name: 'many', data }], { signal: AbortSignal.abort() }),
  ).rejects.toMatchObject({ code: 'ABORTED' })
  await expect(mor.forward([[1]])).resolves.toBeDefined()
})

it('cuts every choice whose context is too long, and says how many', async () => {
  const query = 'x'.repeat(100)
  const data = lines('long.jsonl', [
    { query, choices: ['a', 'b', 'c'], gold: 0 },
    { query: 'short', choices: ['a', 'b'], gold: 0 },
  ])
  const [result] = await evaluate(mor, [{ type: 'multiple_choice', name: 'long', data }])
  expect(result).toMatchObject({ examples: 2, cut: 3 })
})

it('has no threshold with topk: one that is given is refused, and results name none', async () => {
  const task: EvaluationTask = { type: 'perplexity', name: 'text', data: lines('topk.jsonl', [{ text: 'Once more.' }]) }
  await expect(evaluate(mor, [task], { routing: 'topk', routerThreshold: 0.5 })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/evaluate: routerThreshold is 0.5, but routing is "topk"/),
  })
  const [byRank] = await evaluate(mor, [task], { routing: 'topk' })
  expect(byRank).toMatchObject({ routing: 'topk', maxRecursions: 3 })
  expect(byRank).not.toHaveProperty('routerThreshold')
  expect((await evaluate(mor, [task]))[0]).toMatchObject({ routing: 'threshold', routerThreshold: 0.5 })
})

it.each([null, { type: 'token_choice' }] as const)('has no threshold with router %j', async (router) => {
  await using model = await Model.create({ ...config, router }, { dtype: 'float32', device: 'cpu', tokenizer: byte })
  const tasks: EvaluationTask[] = [
    { type: 'perplexity', name: 'text', data: lines('none.jsonl', [{ text: 'Once more.' }]) },
    { type: 'minimal_pairs', name: 'pairs', data: lines('pair.jsonl', [{ good: 'a b', bad: 'b a' }]) },
  ]
  await expect(evaluate(model, tasks, { routerThreshold: 0.5 })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/^evaluate: routerThreshold is 0.5, but this model has /),
  })
  for (const routing of ['threshold', 'topk'] as const) {
    const results = await evaluate(model, tasks, { routing })
    expect(results).toHaveLength(2)
    for (const result of results) expect(result).not.toHaveProperty('routerThreshold')
  }
})
