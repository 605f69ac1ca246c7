// The train command on a stand-in addon: what a run leaves behind, and that stopping and resuming changes nothing.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { train } from '../../../lib/cli/train.js'
import type { TrainOptions } from '../../../lib/cli/train_options.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { FakeAddon } from '../fake_addon.js'
import { abortAtStep, metrics, newFolder, runIn, tiny, weights } from './fake_run.js'
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

describe('a run', () => {
  it('leaves a checkpoint with its tokenizer, metrics, and the place in the data', async () => {
    const { result, stream } = await run()
    const output = join(folder, 'run')
    expect(result).toMatchObject({ step: 9, interrupted: false })
    expect(readdirSync(output).toSorted()).toEqual(['checkpoint', 'dataset', 'metrics.jsonl', 'run.json'])
    expect(await Tokenizer.load(join(output, 'checkpoint'))).toBe(Tokenizer.byteLevel())
    expect(JSON.parse(readFileSync(join(output, 'checkpoint', 'config.json'), 'utf8'))).toMatchObject({
      model_type: 'mor',
      vocab_size: 257,
      eos_token_id: 256,
    })
    expect(JSON.parse(readFileSync(join(output, 'checkpoint', 'trainer.json'), 'utf8'))).toMatchObject({
      step: 9,
      options: {
        learningRate: 0.01,
        gradientAccumulation: 2,
        weightDecay: 0.1,
        recompute: false,
        schedule: { type: 'trapezoid', totalSteps: 9 },
      },
    })
    const entries = metrics(output)
    expect(entries.filter(({ type }) => type === 'step').map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(entries.filter(({ type }) => type === 'evaluation').map(({ step }) => step)).toEqual([4, 8, 9])
    expect(entries[0]).toMatchObject({ tokens: 2 * 2 * 16, epoch: 0 })
    const types = stream.records.map((record) => record.type).filter((type) => type !== 'tokenize') // its progress, if it is slow
    // The stand-in stops every token after the first recursion, which a notice says.
    expect(types).toEqual(['dataset', ...entries.map(({ type }) => type), 'notice', 'end'])
    expect(addon.models.every((model) => model.disposed)).toBe(true)
  })

  it('records nothing that docs/report.md does not explain', async () => {
    await run()
    const explained = readFileSync(join('docs', 'report.md'), 'utf8')
    const fields = metrics(join(folder, 'run')).flatMap((record) => Object.keys(record))
    expect(fields).toContain('lmLoss')
    for (const field of new Set(fields)) expect(explained).toContain(`\`${field}\``)
  })

  it('that is stopped and resumed ends where one that never stopped ends', async () => {
    await run({ output: join(folder, 'whole') })
    const first = await run({}, abortAtStep(addon, 3))
    expect(first.result).toMatchObject({ step: 3, interrupted: true })
    expect(first.stream.records.at(-1)).toMatchObject({ type: 'end', step: 3, interrupted: true })
    // The source may be gone: the run has its tokens.
    rmSync(join(folder, 'text.jsonl'))
    const second = await run({ resume: true, config: undefined, data: undefined })
    expect(second.result).toMatchObject({ step: 9, interrupted: false })
    expect(weights(join(folder, 'run'))).toBe(weights(join(folder, 'whole')))
    expect(metrics(join(folder, 'run')).filter(({ type }) => type === 'step')).toEqual(
      metrics(join(folder, 'whole')).filter(({ type }) => type === 'step'),
    )
  })

  it('that crashed after a checkpoint resumes from it and writes later metrics anew', async () => {
    await run({ output: join(folder, 'whole') })
    let saves = 0
    const { calls } = addon
    const push = calls.push.bind(calls)
    calls.push = (...names: string[]) => {
      if (names[0] === 'save' && ++saves > 1)
        addon.nextWriteError = Object.assign(new Error('disk full'), { code: 'IO_ERROR' })
      return push(...names)
    }
    await expect(run()).rejects.toMatchObject({ code: 'IO_ERROR' })
    calls.push = push
    expect(metrics(join(folder, 'run')).at(-1)).toMatchObject({ step: 8 })
    const { result } = await run({ resume: true })
    expect(result).toMatchObject({ step: 9 })
    expect(weights(join(folder, 'run'))).toBe(weights(join(folder, 'whole')))
    expect(
      metrics(join(folder, 'run'))
        .filter(({ type }) => type === 'step')
        .map(({ step }) => step),
    ).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  it.each([4, 9])('that is stopped in the evaluation after step %i makes it when it goes on', async (step) => {
    await run({ output: join(folder, 'whole') })
    const controller = new AbortController()
    const { calls } = addon
    const push = calls.push.bind(calls)
    let evaluations = 0
    calls.push = (...names: string[]) => {
      if (names[0]!.startsWith('evaluate') && ++evaluations > (step === 4 ? 0 : 4)) controller.abort()
      return push(...names)
    }
    expect((await run({}, controller.signal)).result).toMatchObject({ step, interrupted: true })
    calls.push = push
    expect(metrics(join(folder, 'run')).at(-1)).toMatchObject({ type: 'step', step })
    expect((await run({ resume: true })).result).toMatchObject({ step: 9, interrupted: false })
    const evaluationsOf = (name: string) => metrics(join(folder, name)).filter(({ type }) => type === 'evaluation')
    expect(evaluationsOf('run')).toEqual(evaluationsOf('whole'))
    expect(weights(join(folder, 'run'))).toBe(weights(join(folder, 'whole')))
  })

  it('that is over is resumed to no effect', async () => {
    await run()
    const before = weights(join(folder, 'run'))
    expect((await run({ resume: true })).result).toMatchObject({ step: 9, interrupted: false })
    expect(weights(join(folder, 'run'))).toBe(before)
  })

  it('trains on a dataset that is there, and needs no held-out text', async () => {
    await run({ validationFraction: 0 })
    expect(metrics(join(folder, 'run')).some(({ type }) => type === 'evaluation')).toBe(false)
    const data = [join(folder, 'run', 'dataset')]
    const { result } = await run({ output: join(folder, 'second'), data, validationFraction: 0 })
    expect(result).toMatchObject({ step: 9, evaluation: null })
    expect(existsSync(join(folder, 'second', 'dataset'))).toBe(false)
    expect(weights(join(folder, 'second'))).toBe(weights(join(folder, 'run')))
  })

  it('finds its text by a pattern, and goes on by the same', async () => {
    await run({ data: [join(folder, 'text.json?')] })
    const { sources } = JSON.parse(readFileSync(join(folder, 'run', 'dataset', 'dataset.json'), 'utf8'))
    expect(sources).toMatchObject([{ path: join(folder, 'text.jsonl') }])
    const { result } = await run({ data: [join(folder, 'text.json?')], resume: true, steps: 10 })
    expect(result).toMatchObject({ step: 10 })
    await expect(run({ output: join(folder, 'second'), data: [join(folder, 'no*.txt')] })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/no file has a name like .*no\*\.txt/),
    })
  })

  it('takes over tokens that an earlier try made of the same files', async () => {
    const tooSmall = join(folder, 'small.json')
    writeFileSync(tooSmall, JSON.stringify({ ...tiny, vocab_size: 300 }))
    addon.gate.close()
    const controller = new AbortController()
    const stream = new RecordingStream(false)
    const first = runIn(folder, { config: tooSmall }, controller.signal, stream)
    await vi.waitFor(() => expect(addon.calls).toContain('createModel'))
    controller.abort()
    addon.gate.open()
    await expect(first).rejects.toMatchObject({ code: 'ABORTED' })
    const dataset = join(folder, 'run', 'dataset')
    expect(stream.records.at(-1)).toEqual({ type: 'unfinished', folder: relative('', dataset) })
    await expect(run({ resume: true })).rejects.toMatchObject({
      code: 'CHECKPOINT_MISSING',
      message: expect.stringMatching(
        /run.json is missing; it was stopped before it began: give its first command again, which goes on from .*run\/dataset$/,
      ),
    })
    const again = await run()
    expect(again.stream.records.map(({ type }) => type)).not.toContain('dataset')
    const builtAnew = async (changes: Partial<TrainOptions> = {}) => {
      rmSync(join(folder, 'run', 'run.json'))
      return (await run(changes)).stream.records.some(({ type }) => type === 'dataset')
    }
    expect(await builtAnew()).toBe(false)
    expect(await builtAnew({ validationFraction: 0.3 })).toBe(true)
    expect(await builtAnew()).toBe(true)
    const other = Array.from({ length: 50 }, (_, i) => `{"text":"other text ${i}","body":"its body ${i}"}`)
    writeFileSync(join(folder, 'text.jsonl'), other.join('\n'))
    expect(await builtAnew()).toBe(true)
    expect(await builtAnew({ textField: 'body' })).toBe(true)
    expect(await builtAnew({ textField: 'body' })).toBe(false)
  })
})

describe('a run from a checkpoint', () => {
  const from = () => ({ config: undefined, tokenizer: undefined, from: join(folder, 'start', 'checkpoint') })

  it('starts from its weights, with its tokenizer and a fresh optimizer', async () => {
    await run({ output: join(folder, 'start'), learningRate: 0.1 })
    await run({ ...from(), steps: 1, learningRate: 0 })
    expect(weights(join(folder, 'run'))).toBe(weights(join(folder, 'start')))
    expect(metrics(join(folder, 'run'))[0]).toMatchObject({ step: 1 })
    expect(await Tokenizer.load(join(folder, 'run', 'checkpoint'))).toBe(Tokenizer.byteLevel())
  })

  it('goes on as if it had never stopped, with what its options say of tensors and depth', async () => {
    await run({ output: join(folder, 'start') })
    const course = {
      ...from(),
      freeze: ['model.embed_tokens*'],
      learningRateOf: ['model.routers.*=0.5'],
      depthScheduleSteps: 6,
      depthDropout: 0.5,
    }
    await run({ ...course, output: join(folder, 'whole') })
    expect((await run(course, abortAtStep(addon, 5))).result.interrupted).toBe(true)
    const resumed = { output: join(folder, 'run'), resume: true }
    await train(resumed, new Output(new RecordingStream(false)), new AbortController().signal)
    expect(weights(join(folder, 'run'))).toBe(weights(join(folder, 'whole')))
    const saved = readFileSync(join(folder, 'run', 'checkpoint', 'trainer.json'), 'utf8')
    expect(JSON.parse(saved).options).toMatchObject({
      parameterGroups: [
        { pattern: 'model.embed_tokens*', frozen: true },
        { pattern: 'model.routers.*', learningRate: 0.5 },
      ],
      depthSchedule: { from: 1, steps: 6 },
      depthDropout: 0.5,
    })
    const refused = async (changes: Partial<TrainOptions>, message: RegExp) =>
      expect(
        train({ ...resumed, ...changes }, new Output(new RecordingStream(false)), new AbortController().signal),
      ).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) })
    await refused({ from: course.from }, /--from is .*: leave --from out/)
    await refused({ freeze: ['model.norm*'] }, /--freeze and --learning-rate-of ask for .*model.norm.*leave them out/)
    await refused({ depthDropout: 0.25 }, /--depth-dropout is 0.25, but the run began with 0.5/)
    await refused({ depthScheduleSteps: 7 }, /--depth-schedule-steps is 7, but the run began with 6/)
  })

  it('is refused with a configuration, and with rates that are none', async () => {
    const refused = (changes: Partial<TrainOptions>, message: RegExp) =>
      expect(run(changes)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(message),
      })
    await refused({ from: folder }, /--config and --from are both given/)
    await refused({ config: undefined }, /give --config for a new one, --from to start from a checkpoint/)
    for (const text of ['model.norm', '=1', 'model.norm=', 'model.norm=x', 'model.norm=-1']) {
      await refused({ learningRateOf: [text] }, /--learning-rate-of is ".*"; it must be a pattern of names and a rate/)
    }
    await refused({ freeze: ['model.nothing'] }, /no trained tensor matches "model.nothing"/)
  })
})
