// What an evaluation refuses, and where it says that the mistake is.
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { MorError } from '../../lib/errors.js'
import { evaluate } from '../../lib/evaluate.js'
import type { EvaluationTask } from '../../lib/evaluation/tasks.js'
import { Model } from '../../lib/model.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { byte, config, folder, lines, mor } from './evaluated_model.js'
import { savePairTokenizer } from './tokenizer/pair_tokenizer.js'

vi.setConfig({ testTimeout: 120_000 })

describe('a model whose weights are not numbers', () => {
  let broken: Model
  beforeAll(async () => {
    const checkpoint = join(folder, 'broken')
    await mor.save(checkpoint)
    const path = join(checkpoint, 'model.safetensors')
    const file = readFileSync(path)
    writeFileSync(path, file.fill(0xff, 8 + Number(file.readBigUInt64LE())))
    broken = await Model.load(checkpoint, { device: 'cpu' })
  })
  afterAll(() => broken.dispose())

  it.each<[EvaluationTask['type'], object, string]>([
    ['perplexity', { text: 'a text' }, 'document 1'],
    ['multiple_choice', { query: 'q', choices: ['a', 'b'], gold: 0 }, 'line 1'],
    ['last_word', { text: 'a text' }, 'line 1'],
    ['minimal_pairs', { good: 'a', bad: 'b' }, 'line 1'],
  ])('is found out by %s, which says where', async (type, example, place) => {
    const data = lines('finite.jsonl', [example])
    for (const routing of ['threshold', 'topk'] as const) {
      const running = evaluate(broken, [{ type, name: 'finite', data } as EvaluationTask], { routing })
      await expect(running).rejects.toMatchObject({
        code: 'NON_FINITE',
        message: expect.stringMatching(`^${data}, ${place}: `),
      })
    }
  })
})

it('says where a text stands that the tokenizer cannot encode', async () => {
  const encodeBatch = async () => {
    throw new MorError('INVALID_ARGUMENT', 'the tokenizer has no token for "é"')
  }
  const tokenizer: Tokenizer = Object.assign(Object.create(byte), { encodeBatch })
  const pairs = lines('unknown.jsonl', [{ good: 'é', bad: 'è' }])
  const text = lines('unknown_text.jsonl', [{ text: 'é' }])
  const asked = (task: EvaluationTask) => evaluate(mor, [task], { tokenizer })
  await expect(asked({ type: 'minimal_pairs', name: 'a', data: pairs })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: `${pairs}, line 1: the tokenizer has no token for "é"`,
  })
  await expect(asked({ type: 'perplexity', name: 'a', data: text })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: `${text}, document 1: the tokenizer has no token for "é"`,
  })
})

it('refuses a choice that adds no token to its context', async () => {
  const pairs = await savePairTokenizer()
  const tokenizer = await Tokenizer.load(pairs)
  rmSync(pairs, { recursive: true })
  await using model = await Model.create({ ...config, vocab_size: tokenizer.vocabSize }, { device: 'cpu', seed: 1 })
  // "ab" is one token, as "a" is.
  const data = lines('merged.jsonl', [
    { query: 'a', choices: ['c', 'd'], gold: 0 },
    { query: '1a', choices: ['2', 'b'], gold: 0 },
  ])
  const task: EvaluationTask = { type: 'multiple_choice', name: 'merged', data, delimiter: '' }
  const onResult = vi.fn()
  await expect(evaluate(model, [task], { tokenizer, onResult })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(
      `^${data}, line 1: "c" adds no token to the context, .*: begin it with a space, .*$`,
    ),
  })
  expect(onResult).not.toHaveBeenCalled()
})

const pair = { good: 'a', bad: 'b' }
const choice = { query: 'q', choices: ['a', 'b'], gold: 0 }

it.each<[string, object, unknown[], RegExp]>([
  ['an unknown type', { type: 'quiz' }, [pair], /evaluate: task 1: type is "quiz"; it must be "perplexity" or/],
  ['an unknown key', { type: 'minimal_pairs', fewShot: 1 }, [pair], /unknown key "fewShot"/],
  ['no name', { type: 'minimal_pairs', name: '' }, [pair], /name is ""; it must be a text that is not empty/],
  ['no examples', { type: 'minimal_pairs' }, [], /bad.jsonl is empty|holds no examples/],
  [
    'a gold out of range',
    { type: 'multiple_choice' },
    [choice, { ...choice, gold: 2 }],
    /bad.jsonl, line 2: gold is 2; it must be an integer from 0 to 1/,
  ],
  [
    'an empty choice',
    { type: 'multiple_choice' },
    [{ ...choice, choices: ['a', ''] }],
    /line 1: choices is \["a",""\]; it must be a list of at least two texts/,
  ],
  ['one choice', { type: 'multiple_choice' }, [{ ...choice, choices: ['a'] }], /at least two texts/],
  ['no gold', { type: 'multiple_choice' }, [{ query: 'q', choices: ['a', 'b'] }], /line 1: gold is missing/],
  [
    'no choices',
    { type: 'multiple_choice' },
    [{ query: 'q', gold: 0 }],
    /line 1: choices is missing; it must be a list/,
  ],
  [
    'a gold that is null',
    { type: 'multiple_choice' },
    [{ ...choice, gold: null }],
    /line 1: gold is null; it must be an integer from 0 to 1/,
  ],
  [
    'a list of files where one belongs',
    { type: 'multiple_choice', data: ['a.jsonl'] },
    [choice],
    /data is \["a.jsonl"\]; it must be the path of a file$/,
  ],
  [
    'an empty path',
    { type: 'perplexity', data: ['a.txt', ''] },
    [pair],
    /data is \["a.txt",""\]; it must be the path of a file, or a list of paths$/,
  ],
  ['a delimiter that is no text', { type: 'last_word', delimiter: 5 }, [pair], /delimiter is 5; it must be a text$/],
  ['no continuation', { type: 'last_word' }, [{ context: 'a' }], /line 1: continuation is missing/],
  [
    'no text',
    { type: 'perplexity' },
    [{ title: 'a' }],
    /bad.jsonl, line 1 has no string under "text": its keys are title/,
  ],
  ['no query', { type: 'multiple_choice' }, [{ choices: ['a', 'b'], gold: 0 }], /line 1: query is missing/],
  ['a line that is a list', { type: 'minimal_pairs' }, [[1]], /line 1 is \[1\]; it must be an object/],
  ['one word', { type: 'last_word' }, [{ text: 'word' }], /line 1: text has fewer than two words/],
  [
    'too few shots',
    { type: 'multiple_choice', fewShot: 1 },
    [choice],
    /has 1 examples; fewShot is 1, and an example is not shown to itself, so 2 are needed$/,
  ],
  [
    'a long continuation',
    { type: 'last_word' },
    [{ context: 'a', continuation: 'b'.repeat(200) }],
    /line 1: 201 tokens are to be scored; the context of the model holds 96: shorten the text, or leave the line out$/,
  ],
  [
    'a long stride',
    { type: 'perplexity', length: 5, stride: 6 },
    [{ text: 'a' }],
    /stride is 6; it must be an integer from 1 to 5/,
  ],
  [
    'a long window',
    { type: 'perplexity', length: 97 },
    [{ text: 'a' }],
    /length is 97; the context of the model holds 96/,
  ],
])('refuses %s', async (_, task, examples, message) => {
  const data = lines('bad.jsonl', examples)
  const running = evaluate(mor, [{ name: 'bad', data, ...task } as EvaluationTask])
  await expect(running).rejects.toMatchObject({ message: expect.stringMatching(message) })
  await expect(evaluate(mor, [])).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/there are no tasks/),
  })
})
