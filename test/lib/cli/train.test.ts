// The train command on a stand-in addon: what a run leaves behind, that stopping and resuming changes nothing, refusals.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { train } from '../../../lib/cli/train.js'
import type { TrainOptions } from '../../../lib/cli/train_options.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { FakeAddon } from '../fake_addon.js'
import { savePairTokenizer } from '../tokenizer/pair_tokenizer.js'
import { RecordingStream } from './recording_stream.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

let addon: FakeAddon
vi.mock('../../../lib/native_loader.js', () => ({ loadNative: () => addon }))

let folder: string
beforeEach(() => {
  addon = new FakeAddon()
  folder = mkdtempSync(join(tmpdir(), 'mor-train-'))
  writeFileSync(
    join(folder, 'text.jsonl'),
    Array.from({ length: 100 }, (_, i) => `{"text":"document ${i} of a hundred"}`).join('\n'),
  )
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(tiny))
})

const tiny = {
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 64,
  num_recursions: 3,
  router: { type: 'expert_choice', selection: 'topk' },
}

function options(changes: Partial<TrainOptions> = {}): TrainOptions {
  return {
    output: join(folder, 'run'),
    config: join(folder, 'tiny.json'),
    data: [join(folder, 'text.jsonl')],
    tokenizer: 'byte-level',
    textField: 'text',
    validationFraction: 0.2,
    length: 16,
    batchSize: 2,
    gradientAccumulation: 2,
    steps: 9,
    learningRate: 0.01,
    schedule: 'trapezoid',
    weightDecay: 0.1,
    gradientClip: 1,
    seed: 1,
    device: 'auto',
    dtype: 'bfloat16',
    threads: 0,
    evalEvery: 4,
    evalBatches: 2,
    saveEvery: 4,
    ...changes,
  }
}

async function run(changes: Partial<TrainOptions> = {}, signal = new AbortController().signal) {
  const stream = new RecordingStream(false)
  const result = await train(options(changes), new Output(stream), signal)
  return { result, stream }
}

/** A signal that aborts when training has begun its n-th step from now. */
function abortAtStep(n: number): AbortSignal {
  const controller = new AbortController()
  let left = n
  const { calls } = addon
  const push = calls.push.bind(calls)
  calls.push = (...names: string[]) => {
    const length = push(...names)
    if (names[0] === 'step' && --left === 0) controller.abort()
    return length
  }
  return controller.signal
}

const weights = (output: string) =>
  readFileSync(join(output, 'checkpoint', 'model.safetensors'))
    .subarray(-400)
    .toString('hex')
const metrics = (output: string) =>
  readFileSync(join(output, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

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
    expect((await run(course, abortAtStep(5))).result.interrupted).toBe(true)
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
    const first = await run({}, abortAtStep(3))
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
    const first = run({ config: tooSmall }, controller.signal)
    await vi.waitFor(() => expect(addon.calls).toContain('createModel'))
    controller.abort()
    addon.gate.open()
    await expect(first).rejects.toMatchObject({ code: 'ABORTED' })
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
    await run({}, abortAtStep(3))
    expect(await resume({ steps: 5 })).toMatchObject({ step: 5, interrupted: false })
  })

  it.each<[Partial<TrainOptions>, RegExp]>([
    [{}, /--steps is 6, but .* a warm-up of 3 steps and a cool-down of 4, .*: give at least 7, or start a new run/],
    [{ schedule: 'cosine', cooldownSteps: undefined, warmupSteps: 7 }, /a warm-up of 7 steps and a cool-down of 0, /],
  ])('cannot end before its warm-up and its cool-down have had their steps: %j', async (schedule, message) => {
    await run({ warmupSteps: 3, cooldownSteps: 4, ...schedule }, abortAtStep(2))
    await expect(resume({ steps: 6 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
    await expect(resume({ steps: 1 })).rejects.toMatchObject({ message: expect.stringMatching(/the run has done 2 /) })
    expect(await resume({ steps: 7 })).toMatchObject({ step: 7, interrupted: false })
  })

  it('keeps its times of evaluations and checkpoints, or takes others from then on', async () => {
    await run({ evalEvery: 2 }, abortAtStep(3))
    const abort = abortAtStep(2)
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
    ['nothing to resume', { resume: true }, 'CHECKPOINT_MISSING', 'no run to resume'],
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
    const held = new RegExp(`^process ${process.pid} has trained into .*run since `)
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
    expect((await run({ resume: true, steps: 12 }, abortAtStep(1))).result.interrupted).toBe(true)
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
    rmSync(join(folder, 'run', 'checkpoint'), { recursive: true })
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
