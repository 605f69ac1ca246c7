// `mor evaluate` on the real addon: a line for each metric on a terminal, JSON lines elsewhere, and errors that name what is wrong.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { evaluateCheckpoint } from '../../../lib/cli/evaluate.js'
import { Output } from '../../../lib/cli/output.js'
import { Model } from '../../../lib/model.js'
import { Tokenizer } from '../../../lib/tokenizer.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

let folder: string
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mor-evaluate-'))
  const tokenizer = Tokenizer.byteLevel()
  const config = {
    vocab_size: tokenizer.vocabSize,
    hidden_size: 16,
    intermediate_size: 32,
    num_hidden_layers: 5,
    num_attention_heads: 2,
    max_position_embeddings: 64,
    num_recursions: 3,
    router: { type: 'expert_choice' as const },
  }
  await using model = await Model.create(config, { device: 'cpu', tokenizer })
  await model.save(join(folder, 'model'))
  writeFileSync(
    join(folder, 'pairs.jsonl'),
    '{"good": "It is.", "bad": "It are."}\n{"good": "I am.", "bad": "I is."}\n',
  )
  writeFileSync(join(folder, 'text.txt'), 'A text of a few words.')
  writeFileSync(
    join(folder, 'tasks.json'),
    JSON.stringify({ name: 'pairs', type: 'minimal_pairs', data: 'pairs.jsonl' }),
  )
})
afterAll(() => rmSync(folder, { recursive: true }))

const options = {
  device: 'cpu',
  dtype: 'bfloat16',
  threads: 0,
  nice: 5,
  routing: 'threshold',
  textField: 'text',
} as const

async function run(isTTY: boolean, files: string[], more: object = {}): Promise<string> {
  let written = ''
  const stream = { isTTY, columns: 100, write: (text: string) => (written += text) }
  const paths = files.map((file) => join(folder, file))
  const { signal } = new AbortController()
  await evaluateCheckpoint(join(folder, 'model'), paths, { ...options, ...more }, new Output(stream), signal)
  return written
}

it('writes a JSON line for each task', async () => {
  const written = await run(false, ['tasks.json'], { text: [join(folder, 'text.txt')], maxRecursions: 2 })
  const [pairs, text, ...rest] = written
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(rest).toEqual([])
  expect(pairs).toMatchObject({ type: 'result', kind: 'minimal_pairs', task: 'pairs', examples: 2, maxRecursions: 2 })
  expect(pairs.metrics.accuracy).toEqual({ value: expect.any(Number), standardError: expect.any(Number) })
  expect(text).toMatchObject({ kind: 'perplexity', task: 'text.txt', examples: 1, tokens: 22, routing: 'threshold' })
  expect(text.metrics.bitsPerByte.standardError).toBe(null)
})

it('shows a table on a terminal', async () => {
  const written = await run(true, ['tasks.json'], { text: [join(folder, 'text.txt')], routing: 'topk' })
  expect(written).toMatch(
    /pairs {5}accuracy +[01]\.\d{4} ± 0\.\d{4} +2 examples, 23 tokens, top-k, recursions ≤ 3, \d+s\n/,
  )
  expect(written).toMatch(
    /text\.txt {2}loss +\d\.\d{4} +1 examples, 22 tokens, top-k, recursions ≤ 3, \d+s\n {10}perplexity +\d+\.\d{4}\n {10}bitsPerByte +\d\.\d{4}\n/,
  )
})

it('shows on a terminal how far it is, and reads the key that --text-field names', async () => {
  const path = join(folder, 'poems.jsonl')
  writeFileSync(path, '{"poem": "A first text of many words."}\n{"poem": "A second text."}\n')
  const written = await run(true, ['tasks.json'], { text: [path], textField: 'poem' })
  expect(written).toContain('pairs  2/2, 23 tokens')
  expect(written).toContain('poems.jsonl  2 documents, 41 tokens')
})

it('says where the checkpoint of a run is', async () => {
  const nested = join(folder, 'run')
  mkdirSync(nested)
  writeFileSync(join(nested, 'run.json'), '{}')
  const { signal } = new AbortController()
  const texts = { ...options, text: [join(folder, 'text.txt')] }
  await expect(evaluateCheckpoint(nested, [], texts, new Output({ write: () => true }), signal)).rejects.toMatchObject({
    code: 'CHECKPOINT_MISSING',
    message: expect.stringMatching(/the folder is a run of mor train: give the folder "checkpoint" in it/),
  })
})

it('names texts of one file name by their paths', async () => {
  mkdirSync(join(folder, 'other'))
  const texts = [join(folder, 'text.txt'), join(folder, 'other', 'text.txt')]
  writeFileSync(texts[1]!, 'Another text.')
  const lines = (await run(false, [], { text: texts })).trim().split('\n')
  expect(lines.map((line) => JSON.parse(line).task)).toEqual(texts)
})

it('says on a terminal how many sequences were cut', async () => {
  writeFileSync(join(folder, 'long.jsonl'), JSON.stringify({ context: 'x'.repeat(80), continuation: 'y' }))
  writeFileSync(join(folder, 'long.json'), JSON.stringify({ name: 'long', type: 'last_word', data: 'long.jsonl' }))
  expect(await run(true, ['long.json'])).toMatch(
    /1 examples, 2 tokens, 1 cut to the context, threshold 0\.5, recursions ≤ 3, \d+s/,
  )
  const [line] = (await run(false, ['long.json'])).trim().split('\n')
  expect(JSON.parse(line!)).toMatchObject({ task: 'long', cut: 1 })
})

it('reads the texts that patterns name, in a task file relative to it', async () => {
  mkdirSync(join(folder, 'books'))
  for (const name of ['b.txt', 'a.txt']) writeFileSync(join(folder, 'books', name), 'A text of a book.')
  writeFileSync(join(folder, 'books.json'), JSON.stringify({ name: 'all', type: 'perplexity', data: 'books/*.txt' }))
  const written = await run(false, ['books.json'], { text: [join(folder, 'books/*.txt')] })
  const results = written
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(results.map(({ task, examples }) => [task, examples])).toEqual([
    ['all', 2],
    ['a.txt', 1],
    ['b.txt', 1],
  ])
  writeFileSync(join(folder, 'books.json'), JSON.stringify({ name: 'all', type: 'perplexity', data: 'books/*.md' }))
  await expect(run(false, ['books.json'])).rejects.toThrow(/no file has a name like .*books\/\*\.md/)
})

it('says where two tasks of one name stand', async () => {
  const task = { name: 'text.txt', type: 'minimal_pairs', data: 'pairs.jsonl' }
  writeFileSync(join(folder, 'one.json'), JSON.stringify(task))
  writeFileSync(join(folder, 'two.json'), JSON.stringify([{ ...task, name: 'other' }, task]))
  await expect(run(false, ['one.json', 'two.json'])).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(
      /^.*one.json, task 1, and .*two.json, task 2, have the name "text.txt", .*; give each its own$/,
    ),
  })
  await expect(run(false, ['one.json'], { text: [join(folder, 'text.txt')] })).rejects.toThrow(
    /one.json, task 1, and --text .*text.txt have the name "text.txt"/,
  )
})

it('says that task files stand before --text, which takes all that follow', async () => {
  const text = [join(folder, 'text.txt'), join(folder, 'tasks.json')]
  await expect(run(false, [], { text })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/tasks.json is among the files of --text, .*: put task files before --text/),
  })
})

it('says what is wrong', async () => {
  await expect(run(false, [])).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'there is nothing to evaluate: name task files, or texts with --text',
  })
  await expect(run(false, ['missing.json'])).rejects.toMatchObject({
    code: 'IO_ERROR',
    message: expect.stringMatching(/missing.json/),
  })
  const broken = join(folder, 'broken.json')
  for (const [content, message] of [
    ['', /broken.json is empty; it must hold a task or a list of tasks/],
    [' \n', /broken.json is empty/],
    ['{', /broken.json, line 1 is not JSON/],
    ['[\n1\n2]', /broken.json, line 3 is not JSON: Expected ','/],
    [Buffer.from('{"name": "\xe9"}', 'latin1'), /broken.json is no task file: its bytes are not UTF-8; convert it/],
    [
      '{"query": "a", "choices": ["b", "c"], "gold": 0}\n{"query": "d"}\n',
      /broken.json looks like JSON Lines, the data of a task: give a JSON file with a task whose data names it$/,
    ],
    ['[]', /broken.json holds no tasks/],
    ['[{"name": "a", "type": "quiz"}]', /broken.json, task 1: type is "quiz"/],
    ['{"type": "minimal_pairs", "data": "a"}', /broken.json: name is missing/],
    ['{"name": "a", "data": "a"}', /broken.json: type is missing/],
    [
      '[{"name": "a", "type": "minimal_pairs", "data": "pairs.jsonl"}, 5]',
      /broken.json, task 2 is 5; it must be an object/,
    ],
    ['{"name": "a", "type": "minimal_pairs"}', /broken.json: data is missing; it must be the path of a file$/],
  ] as const) {
    writeFileSync(broken, content)
    await expect(run(false, ['broken.json'])).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
  }
})
