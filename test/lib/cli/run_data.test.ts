// A run on several datasets that are mixed by weight: what --data asks for, what the metrics say of each, resuming, refusals. On a
// stand-in addon.
import { cpSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { weightedDatasets } from '../../../lib/cli/run_data.js'
import { train } from '../../../lib/cli/train.js'
import type { TrainOptions } from '../../../lib/cli/train_options.js'
import { buildDataset } from '../../../lib/dataset.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { FakeAddon } from '../fake_addon.js'
import { savePairTokenizer } from '../tokenizer/pair_tokenizer.js'
import { RecordingStream } from './recording_stream.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

let addon: FakeAddon
vi.mock('../../../lib/native_loader.js', () => ({ loadNative: () => addon }))

const prepared = mkdtempSync(join(tmpdir(), 'mor-mixed-datasets-'))
let folder: string

async function build(name: string, documents: number, tokenizer = Tokenizer.byteLevel(), validationFraction = 0.2) {
  const text = join(prepared, `${name}.jsonl`)
  const lines = Array.from({ length: documents }, (_, i) => JSON.stringify({ text: `${name}, document ${i}` }))
  writeFileSync(text, lines.join('\n'))
  await buildDataset([text], join(prepared, name), { tokenizer, validationFraction })
}

beforeAll(async () => {
  await build('books', 150)
  await build('code', 20)
  await build('all', 20, Tokenizer.byteLevel(), 0)
  await build('pairs', 50, await Tokenizer.load(await savePairTokenizer()))
})

beforeEach(() => {
  addon = new FakeAddon()
  folder = mkdtempSync(join(tmpdir(), 'mor-mixed-run-'))
  for (const name of ['books', 'code', 'all', 'pairs'])
    cpSync(join(prepared, name), join(folder, name), { recursive: true })
  cpSync(join(prepared, 'books.jsonl'), join(folder, 'books.jsonl'))
  const tiny = {
    hidden_size: 8,
    intermediate_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    max_position_embeddings: 64,
  }
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(tiny))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** The values of --data: `books=3` → that dataset of the test with its weight. */
const data = (...names: string[]) => names.map((name) => join(folder, name))

async function run(changes: Partial<TrainOptions> = {}, signal = new AbortController().signal) {
  const options = { output: join(folder, 'run'), config: join(folder, 'tiny.json'), data: data('books=3', 'code=1') }
  const course = { length: 16, batchSize: 2, steps: 9, evalEvery: 4, evalBatches: 2, saveEvery: 4, seed: 1 }
  const stream = new RecordingStream(false)
  return { result: await train({ ...options, ...course, ...changes }, new Output(stream), signal), stream }
}

const resume = (changes: Partial<TrainOptions> = {}) =>
  train(
    { output: join(folder, 'run'), resume: true, ...changes },
    new Output(new RecordingStream(false)),
    new AbortController().signal,
  )

/** A signal that aborts when training has begun its n-th step from now. */
function abortAtStep(n: number): AbortSignal {
  const controller = new AbortController()
  let left = n
  const push = addon.calls.push.bind(addon.calls)
  addon.calls.push = (...names: string[]) => {
    if (names[0] === 'step' && --left === 0) controller.abort()
    return push(...names)
  }
  return controller.signal
}

const metrics = (output: string) =>
  readFileSync(join(folder, output, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
/** The ends of the last weights: the header before them differs from save to save. */
const weights = (output: string) =>
  readFileSync(join(folder, output, 'checkpoint', 'model.safetensors'))
    .subarray(-400)
    .toString('hex')

describe('a run on a mix', () => {
  it('says how many tokens of each dataset it saw, and what each loses', async () => {
    const { stream } = await run()
    const steps = metrics('run').filter(({ type }) => type === 'step')
    for (const [i, { datasets, epoch }] of steps.entries()) {
      expect(epoch).toBeUndefined()
      const [books, code] = datasets
      expect([books.dataset, code.dataset]).toEqual(['books', 'code'])
      expect(books.tokens + code.tokens).toBe((i + 1) * 2 * 16)
      expect(Math.abs(books.tokens - 0.75 * (i + 1) * 2 * 16)).toBeLessThan(16)
    }
    const evaluation = metrics('run').find(({ type }) => type === 'evaluation')
    expect(evaluation).toMatchObject({
      lmLoss: 1,
      tokens: 2 * 2 * 2 * 16,
      datasets: [
        { dataset: 'books', lmLoss: 1, tokens: 2 * 2 * 16 },
        { dataset: 'code', lmLoss: 1, tokens: 2 * 2 * 16 },
      ],
    })
    expect(stream.records.filter(({ type }) => type !== 'end')).toEqual(metrics('run'))
  })

  it('shows the loss of each dataset on a terminal', async () => {
    const stream = new RecordingStream(true, 200)
    const options = { output: join(folder, 'run'), config: join(folder, 'tiny.json'), data: data('books=3', 'code=1') }
    await train({ ...options, length: 16, steps: 1 }, new Output(stream), new AbortController().signal)
    expect(stream.text).toMatch(/validation loss 1\.0000 \(books 1\.0000, code 1\.0000\), \d\.\d\d bits per byte/)
  })

  it('that is stopped and resumed ends where one that never stopped ends, over the ends of epochs', async () => {
    const course = { steps: 40, saveEvery: 30, evalEvery: 15 }
    await run({ ...course, output: join(folder, 'whole') })
    expect((await run(course, abortAtStep(23))).result).toMatchObject({ step: 23, interrupted: true })
    expect(await resume()).toMatchObject({ step: 40, interrupted: false })
    expect(weights('run')).toBe(weights('whole'))
    expect(metrics('run')).toEqual(metrics('whole'))
    expect(metrics('run').at(-2).datasets[1].epoch).toBeGreaterThan(0)
  })

  it('measures what was held out where not all datasets hold something out', async () => {
    await run({ data: data('books=1', 'all=1') })
    const { datasets } = metrics('run').find(({ type }) => type === 'evaluation')
    expect(datasets.map(({ dataset }: { dataset: string }) => dataset)).toEqual(['books'])
    await run({ output: join(folder, 'none'), data: data('all=1') })
    expect(metrics('none').every(({ type }) => type === 'step')).toBe(true)
  })

  it('moves together with its datasets', async () => {
    await run({ steps: 4 })
    const moved = mkdtempSync(join(tmpdir(), 'mor-mixed-moved-'))
    for (const name of ['run', 'books', 'code']) renameSync(join(folder, name), join(moved, name))
    expect(await resume({ output: join(moved, 'run'), steps: 6 })).toMatchObject({ step: 6 })
    rmSync(moved, { recursive: true })
  })
})

describe('a resumed run', () => {
  const refused = async (changes: Partial<TrainOptions>, message: string | RegExp) =>
    expect(resume({ steps: 12, ...changes })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })

  it('is refused with other datasets or weights, with both values, and goes on with the same', async () => {
    await run()
    const began = new RegExp(
      `^--data is .*, but the run began with ${folder}/books=3 ${folder}/code=1, and that cannot change: leave it out`,
    )
    for (const other of [['books=1', 'code=1'], ['books=3'], ['books=3', 'all=1'], ['code=1', 'books=3'], ['books']]) {
      await refused({ data: data(...other) }, began)
    }
    await refused({ data: data('books.jsonl') }, began)
    const relatively = data('books=3', 'code=1.0').map((path) => relative('', path))
    expect(await resume({ steps: 12, data: relatively })).toMatchObject({ step: 12 })
  })

  it('is refused where a dataset was built again of other text', async () => {
    await run()
    const state = JSON.parse(readFileSync(join(folder, 'run', 'run.json'), 'utf8')).positions.at(-1).data
    rmSync(join(folder, 'code'), { recursive: true })
    cpSync(join(folder, 'all'), join(folder, 'code'), { recursive: true })
    await refused(
      {},
      new RegExp(`dataset 2 is .*code \\(checksum \\w+\\), .* .*code \\(checksum ${state.datasets[1].checksum}\\)`),
    )
    expect(addon.models.every((model) => model.disposed)).toBe(true)
  })

  it('of one dataset is refused with a mix', async () => {
    await run({ data: data('books') })
    await refused({ data: data('books=3', 'code=1') }, /--data is .*, but the run began with .*books.jsonl, and/)
  })
})

describe('is refused, before a model is made:', () => {
  it.each<[string, string[], string | RegExp]>([
    ['a dataset without a weight beside others', ['books=3', 'code'], /code has no weight, but others have: .*code=1$/],
    ['text beside datasets', ['books=3', 'books.jsonl'], /books.jsonl has no weight/],
    [
      'text with a weight',
      ['books=3', 'books.jsonl=1'],
      /only datasets are mixed by weight, and .*books.jsonl is none: .*mor prepare/,
    ],
    [
      'a dataset that is not there',
      ['books=3', 'songs=1'],
      /only datasets are mixed by weight, and .*songs is not there/,
    ],
    ['a weight that is none', ['books=3', 'code=much'], /the weight of .*code is "much"; it must be a number above 0/],
    ['a weight of 0', ['books=3', 'code=0'], /the weight of .*code is "0"/],
    ['no weight after the sign', ['books=3', 'code='], /the weight of .*code is ""/],
    [
      'datasets of different tokenizers',
      ['books=3', 'pairs=1'],
      /pairs was made with the tokenizer .*tokenizer.json .*not with byte-level/,
    ],
  ])('%s', async (_, names, message) => {
    await expect(run({ data: data(...names) })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
    expect(addon.models).toEqual([])
    expect(existsSync(join(folder, 'run', 'run.json'))).toBe(false)
  })

  it('several datasets without weights, with how to give them', async () => {
    await expect(run({ data: data('books', 'code') })).rejects.toMatchObject({
      message: expect.stringMatching(
        /books is a dataset: give it alone, .* or mix datasets by weight, as in --data .*=1/,
      ),
    })
    expect(addon.models).toEqual([])
  })

  it('one dataset of another tokenizer', async () => {
    await expect(run({ data: data('pairs') })).rejects.toMatchObject({
      message: expect.stringMatching(/pairs was made with the tokenizer .*, not with byte-level/),
    })
    expect(addon.models).toEqual([])
    expect(existsSync(join(folder, 'run', 'run.json'))).toBe(false)
  })

  it('options that would have made another dataset of the mix', async () => {
    await expect(run({ validationFraction: 0.3 })).rejects.toMatchObject({
      message: expect.stringMatching(/--validation-fraction is 0.3, but the dataset .*books was made with 0.2/),
    })
  })
})

it('a path with the sign in its name is a path', async () => {
  const path = join(folder, 'a=1')
  renameSync(join(folder, 'books.jsonl'), path)
  expect(await weightedDatasets([path])).toBeNull()
  renameSync(join(folder, 'books'), join(folder, 'b=2'))
  expect(await weightedDatasets([join(folder, 'b=2=0.5')])).toEqual([{ folder: join(folder, 'b=2'), weight: 0.5 }])
})
