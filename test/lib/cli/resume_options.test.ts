// A run that is resumed with other options, on a stand-in addon: which ones count, and which ones are refused.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { train } from '../../../lib/cli/train.js'
import type { TrainOptions } from '../../../lib/cli/train_options.js'
import { FakeAddon } from '../fake_addon.js'
import { savePairTokenizer } from '../tokenizer/pair_tokenizer.js'
import { abortAtStep, metrics, newFolder, runIn } from './fake_run.js'
import { RecordingStream } from './recording_stream.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

let addon: FakeAddon
vi.mock('../../../lib/native_loader.js', () => ({ loadNative: () => addon }))

let folder: string
beforeEach(() => {
  addon = new FakeAddon()
  folder = newFolder()
})

const run = (changes: Partial<TrainOptions> = {}, signal?: AbortSignal) => runIn(folder, changes, signal)

describe('a resumed run with other options', () => {
  const resume = (changes: Partial<TrainOptions> = {}) =>
    train(
      { output: join(folder, 'run'), resume: true, ...changes },
      new Output(new RecordingStream(false)),
      new AbortController().signal,
    )
  const optionsOf = (output: string) =>
    JSON.parse(readFileSync(join(output, 'checkpoint', 'trainer.json'), 'utf8')).options

  it('does more steps, with the schedule of that many, and remembers how many', async () => {
    await run()
    expect(await resume({ steps: 12 })).toMatchObject({ step: 12, interrupted: false })
    const schedule = { type: 'trapezoid', totalSteps: 12, warmupSteps: 0, cooldownSteps: 2 }
    expect(optionsOf(join(folder, 'run'))).toMatchObject({ schedule })
    const entries = metrics(join(folder, 'run'))
    expect(entries.filter(({ type }) => type === 'step').map(({ step }) => step)).toEqual(
      Array.from({ length: 12 }, (_, i) => i + 1),
    )
    expect(await resume()).toMatchObject({ step: 12 })
    await expect(resume({ steps: 11 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/--steps is 11, but the run has done 12/),
    })
  })

  it('compares the weights of ranks as often as before, or as often as it is told', async () => {
    await run({ steps: 2, weightHashInterval: 7 })
    for (const [changes, expected] of [
      [{ steps: 3 }, 7],
      [{ steps: 4, weightHashInterval: 0 }, 0],
    ] as const) {
      await resume(changes)
      expect(optionsOf(join(folder, 'run'))).toMatchObject({ weightHashInterval: expected })
    }
  })

  it('may end earlier than it was meant to', async () => {
    await run({}, abortAtStep(addon, 3))
    expect(await resume({ steps: 5 })).toMatchObject({ step: 5, interrupted: false })
  })

  it.each<[Partial<TrainOptions>, RegExp]>([
    [{}, /--steps is 6, but .* a warm-up of 3 steps and a cool-down of 4, .*: give at least 7, or start a new run/],
    [{ schedule: 'cosine', cooldownSteps: undefined, warmupSteps: 7 }, /a warm-up of 7 steps and a cool-down of 0, /],
  ])('cannot end before its warm-up and its cool-down have had their steps: %j', async (schedule, message) => {
    await run({ warmupSteps: 3, cooldownSteps: 4, ...schedule }, abortAtStep(addon, 2))
    await expect(resume({ steps: 6 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
    await expect(resume({ steps: 1 })).rejects.toMatchObject({ message: expect.stringMatching(/the run has done 2 /) })
    expect(await resume({ steps: 7 })).toMatchObject({ step: 7, interrupted: false })
  })

  it('keeps its times of evaluations and checkpoints, or takes others from then on', async () => {
    await run({ evalEvery: 2 }, abortAtStep(addon, 3))
    const abort = abortAtStep(addon, 2)
    await train(
      { output: join(folder, 'run'), resume: true, recompute: true },
      new Output(new RecordingStream(false)),
      abort,
    )
    expect(optionsOf(join(folder, 'run'))).toMatchObject({ recompute: true })
    await resume({ evalEvery: 7 })
    await resume({ steps: 14 })
    const evaluations = metrics(join(folder, 'run')).filter(({ type }) => type === 'evaluation')
    expect(evaluations.map(({ step }) => step)).toEqual([2, 4, 7, 9, 14])
  })

  it('accepts all that it began with', async () => {
    await run()
    expect((await run({ resume: true })).result).toMatchObject({ step: 9 })
  })

  it.each<[Partial<TrainOptions>, RegExp]>([
    [{ batchSize: 8 }, /--batch-size is 8, but the run began with 2, and that cannot change/],
    [{ gradientAccumulation: 1 }, /--gradient-accumulation is 1, but the run began with 2/],
    [{ length: 8 }, /--length is 8, but the run began with 16/],
    [{ seed: 2 }, /--seed is 2, but the run began with 1/],
    [{ learningRate: 0.1 }, /--learning-rate is 0.1, but the run began with 0.01/],
    [{ weightDecay: 0 }, /--weight-decay is 0, but the run began with 0.1/],
    [{ gradientClip: 2 }, /--gradient-clip is 2, but the run began with 1/],
    [{ schedule: 'cosine' }, /--schedule is cosine, but the run began with trapezoid/],
    [{ warmupSteps: 3 }, /--warmup-steps is 3, but the run began with 0/],
    [{ cooldownSteps: 3 }, /--cooldown-steps is 3, but the run began with 2/],
    [{ dtype: 'float32' }, /--dtype is float32, but the run began with bfloat16/],
    [{ textField: 'body' }, /--text-field is "body", but the dataset .* was made with "text"/],
    [{ validationFraction: 0.1 }, /--validation-fraction is 0.1, but the dataset .* was made with 0.2/],
    [{ config: '135M' }, /--config: 135M has hidden_size 576, but the run began with 8/],
  ])('is refused: %j', async (changes, message) => {
    await run()
    await expect(resume(changes)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
    expect(addon.models.length).toBe(1)
  })

  it('is refused with other text, changed text, or another tokenizer', async () => {
    await run()
    const other = join(folder, 'other.txt')
    writeFileSync(other, 'other')
    await expect(resume({ data: [other] })).rejects.toMatchObject({
      message: expect.stringMatching(/--data is .*other.txt, but the run began with .*text.jsonl/),
    })
    writeFileSync(join(folder, 'text.jsonl'), '{"text":"another text"}')
    await expect(resume({ data: [join(folder, 'text.jsonl')] })).rejects.toMatchObject({
      message: expect.stringMatching(/text.jsonl has changed since the run began: leave --data out/),
    })
    const tokenizer = await savePairTokenizer()
    await expect(resume({ tokenizer })).rejects.toMatchObject({
      message: expect.stringMatching(/--tokenizer is .*, but the run began with byte-level/),
    })
    expect(await resume({ data: [join(folder, 'run', 'dataset')] })).toMatchObject({ step: 9 })
  })
})
