// What the train command refuses, on a stand-in addon.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { TrainOptions } from '../../../lib/cli/train_options.js'
import { FakeAddon } from '../fake_addon.js'
import { abortAtStep, newFolder, runIn, tiny } from './fake_run.js'

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

describe('is refused, before a model is made:', () => {
  it.each<[string, Partial<TrainOptions>, string, string]>([
    ['no model', { config: undefined }, 'INVALID_ARGUMENT', '--config'],
    ['no text', { data: undefined }, 'INVALID_ARGUMENT', '--data'],
    ['an unknown preset', { config: '135M-mor' }, 'INVALID_ARGUMENT', 'did you mean "135M-mor-'],
    [
      'rows longer than the context',
      { length: 65 },
      'INVALID_ARGUMENT',
      '--length is 65, more than max_position_embeddings 64',
    ],
    ['a missing file', { data: ['/nowhere.txt'] }, 'IO_ERROR', '/nowhere.txt'],
    ['a missing tokenizer', { tokenizer: '/nowhere' }, 'CHECKPOINT_MISSING', '/nowhere'],
    [
      'nothing to resume',
      { resume: true },
      'CHECKPOINT_MISSING',
      'run.json is missing; give the --output of a run, or',
    ],
  ])('%s', async (_, changes, code, message) => {
    await expect(run(changes)).rejects.toMatchObject({ code, message: expect.stringContaining(message) })
    expect(addon.models).toEqual([])
    expect(existsSync(join(folder, 'run'))).toBe(false)
  })

  it('a cool-down of a schedule without one, and options that would have made another dataset', async () => {
    await expect(run({ schedule: 'cosine', cooldownSteps: 3 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/--cooldown-steps is 3, but the schedule is cosine/),
    })
    expect(addon.models).toEqual([])
    await run()
    const data = [join(folder, 'run', 'dataset')]
    await expect(run({ output: join(folder, 'second'), data, validationFraction: 0.3 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/--validation-fraction is 0.3, but the dataset .* was made with 0.2/),
    })
    expect(addon.models.length).toBe(1)
  })

  it('a vocabulary smaller than the tokenizer’s', async () => {
    writeFileSync(join(folder, 'tiny.json'), JSON.stringify({ ...tiny, vocab_size: 256 }))
    await expect(run()).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringMatching(/256.*byte-level has 257/),
    })
  })

  it('a folder as model, and a file as the folder of the run', async () => {
    await expect(run({ config: folder })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/--config is the folder .*: give it as --from .*config\.json.*--resume/),
    })
    await expect(run({ output: join(folder, 'text.jsonl') })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('text.jsonl is a file'),
    })
    expect(addon.models).toEqual([])
  })

  it('a folder that already holds a run', async () => {
    await run()
    await expect(run()).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('--resume'),
    })
  })

  it('a folder that a run trains into, until that one ends', async () => {
    const held = new RegExp(`^process ${process.pid} has been writing into .*run since `)
    const refusal = { code: 'INVALID_ARGUMENT', message: expect.stringMatching(held) }
    const reached = addon.stopAt('createModel')
    const first = run()
    await reached
    await expect(run()).rejects.toMatchObject(refusal)
    await expect(run({ resume: true })).rejects.toMatchObject(refusal)
    const elsewhere = run({ output: join(folder, 'other') })
    addon.gate.open()
    expect(await Promise.all([first, elsewhere])).toMatchObject([{ result: { step: 9 } }, { result: { step: 9 } }])
    expect((await run({ resume: true, steps: 10 })).result).toMatchObject({ step: 10 })
    // Neither an error nor an end by a signal leaves it held.
    addon.nextWriteError = Object.assign(new Error('disk full'), { code: 'IO_ERROR' })
    await expect(run({ resume: true, steps: 11 })).rejects.toMatchObject({ code: 'IO_ERROR' })
    expect((await run({ resume: true, steps: 12 }, abortAtStep(addon, 1))).result.interrupted).toBe(true)
    expect((await run({ resume: true, steps: 12 })).result).toMatchObject({ step: 12 })
  })

  it('a run without a checkpoint, and a checkpoint of another run', async () => {
    await run()
    await run({ output: join(folder, 'other'), steps: 5, data: [join(folder, 'text.jsonl')] })
    const record = join(folder, 'run', 'run.json')
    writeFileSync(record, readFileSync(join(folder, 'other', 'run.json')))
    await expect(run({ resume: true })).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringContaining('step 9'),
    })
    writeFileSync(record, JSON.stringify({ ...JSON.parse(readFileSync(record, 'utf8')), positions: [] }))
    await expect(run({ resume: true })).rejects.toMatchObject({
      code: 'CHECKPOINT_MISSING',
      message: expect.stringContaining('before its first checkpoint'),
    })
    expect(addon.models.every((model) => model.disposed)).toBe(true)
  })

  it('a run whose first checkpoint could not be saved', async () => {
    await run()
    const checkpoint = join(folder, 'run', 'checkpoint')
    // A process that is killed in the middle of the save leaves its new folder.
    for (const left of [join(checkpoint, '.saving-abc'), null]) {
      rmSync(checkpoint, { recursive: true })
      if (left !== null) mkdirSync(left, { recursive: true })
      await expect(run({ resume: true })).rejects.toMatchObject({
        code: 'CHECKPOINT_MISSING',
        message: expect.stringMatching(/before its first checkpoint: delete \S+run\.json and start again/),
      })
      await expect(run()).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(
          /it has no checkpoint: unless it still goes on, delete \S+run\.json and start again/,
        ),
      })
    }
    rmSync(join(folder, 'run', 'run.json'))
    await run()
  })

  it('options that the trainer refuses, leaving no half-made run', async () => {
    await expect(run({ warmupSteps: 8, cooldownSteps: 8 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(existsSync(join(folder, 'run', 'run.json'))).toBe(false)
    expect(addon.models.every((model) => model.disposed)).toBe(true)
    mkdirSync(join(folder, 'run'), { recursive: true })
    expect((await run()).result.step).toBe(9)
  })
})
