// The training loop with a stand-in trainer: when it evaluates, saves, stops, and what it does with refused steps.
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { evaluateDataset, evaluateMix } from '../../../lib/cli/evaluation.js'
import { Output } from '../../../lib/cli/output.js'
import { type LoopTrainer, type TrainLoopOptions, trainLoop } from '../../../lib/cli/train_loop.js'
import { buildDataset, Dataset, DatasetMix } from '../../../lib/dataset.js'
import { MorError } from '../../../lib/errors.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { RecordingStream } from './recording_stream.js'

const LENGTH = 16
let folder: string
beforeAll(async () => {
  const root = mkdtempSync(join(tmpdir(), 'mor-loop-'))
  writeFileSync(
    join(root, 'a.jsonl'),
    Array.from({ length: 200 }, (_, i) => `{"text":"document number ${i}, ünïcode"}`).join('\n'),
  )
  folder = join(root, 'dataset')
  await buildDataset([join(root, 'a.jsonl')], folder, { tokenizer: Tokenizer.byteLevel(), validationFraction: 0.2 })
})

interface Calls {
  steps: Int32Array[][]
  evaluations: number
  saves: number[]
  /** How many rows were taken before each save. */
  savedRows: number[]
  records: { type: string; step: number }[]
}

/**
 * Runs the loop; `onStep` is called before each attempted step with its number from 1, and `onRead` when its rows have been read, with
 * that of all reads.
 */
async function run(
  changes: Partial<TrainLoopOptions> = {},
  onStep: (attempt: number) => void = () => {},
  trainerChanges: Partial<LoopTrainer> = {},
  onRead: (read: number) => void = () => {},
) {
  const calls: Calls = { steps: [], evaluations: 0, saves: [], savedRows: [], records: [] }
  let reads = 0
  let done = changes.firstStep ?? 0
  const trainer: LoopTrainer = {
    async step(batch) {
      calls.steps.push(batch)
      onStep(calls.steps.length)
      return {
        step: ++done,
        loss: 2,
        lmLoss: 1.5,
        learningRate: 0.001,
        tokens: 12,
        tokensPerSecond: 1234,
        depthHistogram: [6, 3, 3],
      }
    },
    async evaluate(batch, { routing }) {
      expect(routing).toBe('threshold')
      calls.evaluations++
      return { lmLoss: batch.length, tokens: batch.length * LENGTH, depthHistogram: [batch.length, 1] }
    },
    ...trainerChanges,
  }
  await using train = await Dataset.open(folder, { length: LENGTH })
  await using validation = await Dataset.open(folder, { length: LENGTH, split: 'validation' })
  const stream = new RecordingStream(changes.output !== undefined)
  const result = trainLoop({
    trainer,
    ranks: null,
    train,
    nextRows: async () => {
      const rows = await train.next(3)
      onRead(++reads)
      return rows
    },
    validation,
    firstStep: 0,
    owesEvaluation: false,
    steps: 10,
    batchSize: 4,
    evalEvery: 4,
    evalBatches: 2,
    saveEvery: 5,
    save: async (step) => {
      calls.saves.push(step)
      calls.savedRows.push(train.state().index)
    },
    record: async (record) => {
      calls.records.push(record as Calls['records'][number])
    },
    output: new Output(stream),
    signal: new AbortController().signal,
    ...changes,
  })
  const outcome = await result.then(
    (value) => ({ value, error: null }),
    (error: unknown) => ({ value: null, error }),
  )
  return { ...outcome, calls, stream }
}

describe('the loop', () => {
  it('steps, evaluates and saves at its times and at the end, and records all of it', async () => {
    const { value, calls, stream } = await run()
    expect(value).toMatchObject({ step: 10, interrupted: false, evaluation: { routing: 'threshold' } })
    expect(calls.steps.length).toBe(10)
    for (const batch of calls.steps)
      expect(batch.map((row) => row.length)).toEqual([LENGTH + 1, LENGTH + 1, LENGTH + 1])
    expect(calls.saves).toEqual([5, 10])
    expect(calls.records.filter(({ type }) => type === 'evaluation').map(({ step }) => step)).toEqual([4, 8, 10])
    expect(calls.records.filter(({ type }) => type === 'step').map(({ step }) => step)).toEqual([
      1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    ])
    expect(stream.records).toEqual(calls.records)
  })

  it('goes on from a step and on other data than before', async () => {
    const { value, calls } = await run({ firstStep: 7 })
    expect(value).toMatchObject({ step: 10 })
    expect(calls.steps.length).toBe(3)
    expect(calls.saves).toEqual([10])
  })

  it('without held-out data does not evaluate', async () => {
    const { value, calls } = await run({ validation: null })
    expect(value).toMatchObject({ evaluation: null })
    expect(calls.evaluations).toBe(0)
  })

  it('shows a line for people on a terminal', async () => {
    const stream = new RecordingStream(true, 200)
    await run({ output: new Output(stream) })
    expect(stream.text).toMatch(
      /step 10\/10 {2}loss 1\.500 {2}lr 1\.0e-3 {2}1\.23K tokens\/s {2}depths 50\/25\/25% {2}0s left/,
    )
    expect(stream.text).toMatch(/step 8: validation loss \d\.\d{4}, \d+\.\d\d bits per byte, depths \d+\/\d+%\n/)
  })

  it('when interrupted finishes the step and saves', async () => {
    const controller = new AbortController()
    const { value, calls } = await run({ signal: controller.signal }, (attempt) => attempt === 3 && controller.abort())
    expect(value).toMatchObject({ step: 3, interrupted: true })
    expect(calls.saves).toEqual([3])
    const before = await run({ signal: AbortSignal.abort() })
    expect(before.value).toMatchObject({ step: 0, interrupted: true })
    expect(before.calls.saves).toEqual([0])
  })

  it('when interrupted in an evaluation ends that, and saves', async () => {
    const controller = new AbortController()
    const { signal } = controller
    const evaluate: LoopTrainer['evaluate'] = async (_, options) => {
      expect(options.signal).toBe(signal)
      controller.abort()
      throw new MorError('ABORTED', 'the evaluation was aborted')
    }
    const { value, calls } = await run({ signal }, () => {}, { evaluate })
    expect(value).toMatchObject({ step: 4, interrupted: true, evaluation: null })
    expect(calls.saves).toEqual([4])
  })

  it('is interrupted in the last evaluation too, and makes up for it before anything else', async () => {
    const controller = new AbortController()
    const { signal } = controller
    const evaluate: LoopTrainer['evaluate'] = async () => {
      controller.abort()
      throw new MorError('ABORTED', 'the evaluation was aborted')
    }
    const { value } = await run({ signal, evalEvery: 20 }, () => {}, { evaluate })
    expect(value).toMatchObject({ step: 10, interrupted: true, evaluation: null })
    const owed = await run({ firstStep: 8, owesEvaluation: true })
    const recorded = owed.calls.records.map(({ type, step }) => `${type} ${step}`)
    expect(recorded).toEqual(['evaluation 8', 'step 9', 'step 10', 'evaluation 10'])
    const last = await run({ firstStep: 10, owesEvaluation: true })
    expect(last.value).toMatchObject({ step: 10, interrupted: false, evaluation: expect.anything() })
  })

  it('saves what there is before an error ends it, and tells of that error', async () => {
    const full = new MorError('IO_ERROR', 'no space')
    let records = 0
    const record = async () => {
      if (++records === 3) throw full
    }
    const { error, calls } = await run({ record })
    expect(error).toBe(full)
    expect(calls.saves).toEqual([3])
    const failing = async (step: number) => {
      calls.saves.push(step)
      throw new MorError('IO_ERROR', 'nor for a checkpoint')
    }
    records = 0
    expect(await run({ record, save: failing })).toMatchObject({ error: full })
    expect(calls.saves).toEqual([3, 3])
    expect(await run({ save: failing })).toMatchObject({ error: { message: 'nor for a checkpoint' } })
    expect(calls.saves).toEqual([3, 3, 5])
  })
})

describe('refused steps', () => {
  const refuse = () => {
    throw new MorError('NON_FINITE', 'the loss is NaN')
  }

  it('are recorded and passed over, with other data', async () => {
    const { value, calls } = await run({}, (attempt) => (attempt === 2 || attempt === 3) && refuse())
    expect(value).toMatchObject({ step: 10, interrupted: false })
    expect(calls.steps.length).toBe(12)
    expect(calls.records.filter(({ type }) => type === 'refused')).toEqual([
      { type: 'refused', step: 1, message: 'the loss is NaN', data: expect.objectContaining({ index: 6 }) },
      { type: 'refused', step: 1, message: 'the loss is NaN', data: expect.objectContaining({ index: 9 }) },
    ])
    expect(String(calls.steps[1]![0])).not.toBe(String(calls.steps[2]![0]))
  })

  it('end the run after ten in a row, saved', async () => {
    const { error, calls } = await run({}, (attempt) => attempt > 2 && refuse())
    expect(error).toMatchObject({ code: 'NON_FINITE' })
    expect(calls.steps.length).toBe(12)
    expect(calls.saves).toEqual([2])
    expect(calls.savedRows).toEqual([36])
    const again = await run({ firstStep: 2 }, refuse)
    expect(again.calls.saves).toEqual([2])
    expect(again.calls.savedRows).toEqual([30])
  })

  it('are passed over for good where the loop is stopped behind them, and its checkpoint came before', async () => {
    const controller = new AbortController()
    const { calls } = await run({ signal: controller.signal }, (attempt) => {
      if (attempt < 6) return
      controller.abort()
      refuse()
    })
    expect(calls.saves).toEqual([5, 5])
    expect(calls.savedRows).toEqual([15, 18])
  })
})

describe('an error', () => {
  const fail = () => {
    throw new MorError('OUT_OF_MEMORY', 'no memory')
  }

  it('in the first step ends the loop at once', async () => {
    const { error, calls } = await run({}, fail)
    expect(error).toMatchObject({ code: 'OUT_OF_MEMORY' })
    expect(calls.steps.length).toBe(1)
    expect(calls.saves).toEqual([])
  })

  it('in a later step, or in reading its rows, ends it before these rows: they are taken again', async () => {
    const inStep = await run({}, (attempt) => attempt === 4 && fail())
    const inReading = await run({}, undefined, {}, (read) => read === 4 && fail())
    for (const { error, calls } of [inStep, inReading]) {
      expect(error).toMatchObject({ code: 'OUT_OF_MEMORY' })
      expect(calls.saves).toEqual([3])
      expect(calls.savedRows).toEqual([9])
    }
  })
})

describe('evaluation', () => {
  it('weights batches by their tokens and counts bits by the bytes of the text', async () => {
    await using dataset = await Dataset.open(folder, { length: LENGTH, split: 'validation' })
    const sizes: number[] = []
    const evaluator: LoopTrainer['evaluate'] extends infer Evaluate ? { evaluate: Evaluate } : never = {
      evaluate: async (batch) => {
        sizes.push(batch.length)
        return { lmLoss: batch.length, tokens: batch.length * LENGTH, depthHistogram: [batch.length, 2 * batch.length] }
      },
    }
    const result = await evaluateDataset(evaluator, dataset, {
      batchSize: 5,
      maxBatches: Number.POSITIVE_INFINITY,
      routing: 'topk',
      signal: new AbortController().signal,
    })
    const rows = sizes.reduce((sum, size) => sum + size, 0)
    expect(rows).toBe(Math.floor((dataset.split.tokens - 1) / LENGTH))
    expect(sizes.at(-1)).not.toBe(5)
    const mean = sizes.reduce((sum, size) => sum + size * size, 0) / rows
    expect(result).toMatchObject({ routing: 'topk', tokens: rows * LENGTH, depthHistogram: [rows, 2 * rows] })
    expect(result.lmLoss).toBeCloseTo(mean, 12)
    expect(result.bitsPerByte).toBeCloseTo((mean / Math.log(2)) * (dataset.split.tokens / dataset.split.bytes), 12)
  })

  it('of a mix is that of each dataset, and the mean by their shares', async () => {
    const root = mkdtempSync(join(tmpdir(), 'mor-loop-mix-'))
    const short = join(root, 'short')
    writeFileSync(join(root, 'short.jsonl'), Array.from({ length: 400 }, () => '{"text":"ab"}').join('\n'))
    const tokenizer = Tokenizer.byteLevel()
    await buildDataset([join(root, 'short.jsonl')], short, { tokenizer, validationFraction: 0.2 })
    const datasets = [
      { folder, weight: 3 },
      { folder: short, weight: 1 },
    ]
    await using mix = await DatasetMix.open(datasets, { length: LENGTH, split: 'validation' })
    const batches: Record<number, number> = { 1: 0, 3: 0 }
    const evaluate: LoopTrainer['evaluate'] = async (batch, { routing }) => {
      expect(routing).toBe('threshold')
      const lmLoss = /^[ab]+$/.test(tokenizer.decode(batch[0]!)) ? 3 : 1
      batches[lmLoss]!++
      return { lmLoss, tokens: batch.length * LENGTH, depthHistogram: [batch.length, lmLoss] }
    }
    const { signal } = new AbortController()
    const result = await evaluateMix({ evaluate }, mix, { batchSize: 2, maxBatches: 3, routing: 'threshold', signal })
    expect(batches).toEqual({ 1: 3, 3: 3 })
    const [long, ab] = mix.parts.map(({ dataset }) => dataset.split.bytes / dataset.split.tokens) as [number, number]
    expect(ab).toBeCloseTo(2 / 3, 2)
    expect(result).toMatchObject({
      routing: 'threshold',
      tokens: 12 * LENGTH,
      depthHistogram: [12, 3 * 1 + 3 * 3],
      datasets: [
        { dataset: 'dataset', lmLoss: 1, tokens: 6 * LENGTH, depthHistogram: [6, 3] },
        { dataset: 'short', lmLoss: 3, tokens: 6 * LENGTH, depthHistogram: [6, 9] },
      ],
    })
    expect(result.lmLoss).toBeCloseTo(1.5, 12)
    const bits = 1 / Math.log(2)
    expect(result.datasets!.map(({ bitsPerByte }) => bitsPerByte / bits)).toEqual([
      expect.closeTo(1 / long, 12),
      expect.closeTo(3 / ab, 12),
    ])
    expect(result.bitsPerByte).toBeCloseTo((1.5 * bits) / (0.75 * long + 0.25 * ab), 12)
  })
})
