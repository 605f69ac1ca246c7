// The train command with a teacher, on a stand-in addon: what it passes on, what is refused, and what cannot change when it is
// resumed.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, it, vi } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { train } from '../../../lib/cli/train.js'
import type { TrainOptions } from '../../../lib/cli/train_options.js'
import { Model } from '../../../lib/model.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { FakeAddon } from '../fake_addon.js'
import { RecordingStream } from './recording_stream.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

let addon: FakeAddon
vi.mock('../../../lib/native_loader.js', () => ({ loadNative: () => addon }))

const config = {
  vocab_size: 257,
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 64,
  num_recursions: 3,
  router: { type: 'expert_choice' },
} as const

let folder: string
let from: string
let teacher: string
beforeEach(async () => {
  addon = new FakeAddon()
  folder = mkdtempSync(join(tmpdir(), 'mor-up-train-'))
  writeFileSync(join(folder, 'text.txt'), 'some text to learn from. '.repeat(40))
  from = join(folder, 'checkpoint')
  teacher = join(folder, 'teacher')
  const tokenizer = Tokenizer.byteLevel()
  await (await Model.create(config, { dtype: 'float32', seed: 3, tokenizer })).save(from)
  await (await Model.create({ ...config, num_recursions: 1, router: null }, { seed: 4, tokenizer })).save(teacher)
  addon.models.length = 0
})

async function run(changes: Partial<TrainOptions>, signal = new AbortController().signal) {
  const options: TrainOptions = {
    output: join(folder, 'run'),
    data: [join(folder, 'text.txt')],
    length: 16,
    batchSize: 2,
    steps: 4,
    saveEvery: 2,
    ...changes,
  }
  return train(options, new Output(new RecordingStream(false)), signal)
}
const given = (changes: Partial<TrainOptions> = {}): Partial<TrainOptions> => ({
  from,
  teacher,
  distillationWeight: 0.25,
  distillationTemperature: 2,
  freeze: ['model.embed_tokens*'],
  depthScheduleSteps: 3,
  capacityWarmupSteps: 2,
  ...changes,
})

/** A copy of the teacher with other values in its config.json, and its tokenizer.json as `change` makes it. */
function otherTeacher(config: object, change = (tokenizer: string) => tokenizer): string {
  const other = join(folder, 'other')
  cpSync(teacher, other, { recursive: true })
  const edit = (name: string, content: (text: string) => string) =>
    writeFileSync(join(other, name), content(readFileSync(join(other, name), 'utf8')))
  edit('config.json', (text) => JSON.stringify({ ...JSON.parse(text), ...config }))
  edit('tokenizer.json', (text) => change(JSON.stringify(JSON.parse(text))))
  return other
}
const checkpoint = (output: string) => readFileSync(join(folder, output, 'checkpoint', 'model.safetensors'))

it('passes the teacher and the capacity warm-up on', async () => {
  await run(given())
  expect(addon.trainers.at(-1)!.options).toMatchObject({
    capacityWarmupSteps: 2,
    distillation: { temperature: 2, weight: 0.25 },
  })
  expect(addon.models).toHaveLength(2)
  expect(addon.models.every(({ disposed }) => disposed)).toBe(true)
})

it('takes a teacher whose tokenizer has the same tokens in another file, and one without a tokenizer', async () => {
  await run({ from, teacher: otherTeacher({}, (text) => `${text} `), output: join(folder, 'first') })
  rmSync(join(folder, 'other', 'tokenizer.json'))
  await run({ from, teacher: join(folder, 'other'), output: join(folder, 'second') })
})

it('says where a run ends before all recursions run', async () => {
  const stream = new RecordingStream(false)
  const options = { from, output: join(folder, 'run'), data: [join(folder, 'text.txt')], depthScheduleSteps: 4 }
  const short = { length: 16, batchSize: 2, steps: 4, capacityWarmupSteps: 1 }
  await train({ ...options, ...short }, new Output(stream), new AbortController().signal)
  expect(stream.records).toContainEqual({ type: 'notice', depthScheduleSteps: 4, steps: 4 })
  expect(stream.records).not.toContainEqual(expect.objectContaining({ capacityWarmupSteps: 1 }))
})

it('says where a run ends within the capacity warm-up', async () => {
  const stream = new RecordingStream(false)
  const options = {
    ...given({ capacityWarmupSteps: 4 }),
    output: join(folder, 'run'),
    data: [join(folder, 'text.txt')],
  }
  await train({ ...options, length: 16, batchSize: 2, steps: 4 }, new Output(stream), new AbortController().signal)
  expect(stream.records).toContainEqual({ type: 'notice', capacityWarmupSteps: 4, steps: 4 })
})

it('says at the end that the held-out tokens stop after the first recursion, as those of the stand-in do', async () => {
  const stream = new RecordingStream(false)
  const options = {
    from,
    output: join(folder, 'run'),
    data: [join(folder, 'text.txt')],
    length: 16,
    batchSize: 2,
    steps: 4,
  }
  await train({ ...options, capacityWarmupSteps: 1 }, new Output(stream), new AbortController().signal)
  expect(stream.records.slice(-2)).toEqual([
    { type: 'notice', recursion: 2, share: 0, capacity: 2 / 3 },
    expect.objectContaining({ type: 'end' }),
  ])
})

it('is the same run whether it is stopped or not', async () => {
  await run(given({ output: join(folder, 'whole') }))
  const controller = new AbortController()
  const { calls } = addon
  const push = calls.push.bind(calls)
  let steps = 0
  calls.push = (...names: string[]) => {
    if (names[0] === 'step' && ++steps === 2) controller.abort()
    return push(...names)
  }
  expect(await run(given(), controller.signal)).toMatchObject({ interrupted: true })
  calls.push = push
  expect(await run({ resume: true, data: undefined, length: undefined, batchSize: undefined })).toMatchObject({
    step: 4,
  })
  expect(checkpoint('run').subarray(-400)).toEqual(checkpoint('whole').subarray(-400))
  expect(addon.models.every(({ disposed }) => disposed)).toBe(true)
})

it('goes on with the options that it began with, and refuses others by name', async () => {
  await run(given())
  const goOn = (changes: Partial<TrainOptions>) => run({ resume: true, ...changes })
  await expect(goOn(given({ from: undefined, steps: 5 }))).resolves.toMatchObject({ step: 5 })
  const changes: [Partial<TrainOptions>, RegExp][] = [
    [{ teacher: from }, /--teacher is .*checkpoint, but the run began with .*teacher/],
    [{ distillationWeight: 0.5 }, /--distillation-weight is 0.5, but the run began with 0.25/],
    [{ distillationTemperature: 1 }, /--distillation-temperature is 1, but the run began with 2/],
    [{ capacityWarmupSteps: 5 }, /--capacity-warmup-steps is 5, but the run began with 2/],
  ]
  for (const [change, message] of changes) {
    await expect(goOn(change)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
  }
})

it('refuses what a run began without', async () => {
  await run({ from, steps: 1 })
  for (const change of [{ teacher }, { capacityWarmupSteps: 2 }, { distillationWeight: 0.5 }]) {
    await expect(run({ resume: true, ...change })).rejects.toMatchObject({
      message: expect.stringMatching(/but the run began without it/),
    })
  }
})

it.each<[string, () => Partial<TrainOptions>, RegExp]>([
  [
    'a temperature without a teacher',
    () => ({ from, distillationTemperature: 2 }),
    /--distillation-temperature is 2, but there is no --teacher/,
  ],
  [
    'a weight without a teacher',
    () => ({ from, distillationWeight: 1 }),
    /--distillation-weight is 1, but there is no --teacher/,
  ],
  [
    'a teacher of another vocabulary',
    () => ({ from, teacher: otherTeacher({ vocab_size: 300 }) }),
    /--teacher is .*other, whose vocab_size is 300, but that of .*checkpoint is 257: give a teacher of the same vocabulary/,
  ],
  [
    'a teacher with other tokens',
    () => ({ from, teacher: otherTeacher({}, (text) => text.replace('"A":65', '"A":66').replace('"B":66', '"B":65')) }),
    /--teacher is .*other, whose token 65 is "B", but in the tokenizer byte-level it is "A": give a teacher of the same tokens/,
  ],
  ['a folder without a checkpoint as the teacher', () => ({ from, teacher: folder }), /config.json/],
  ['names of tensors that the model does not have', () => given({ freeze: ['nothing*'] }), /no trained tensor matches/],
  ['a temperature of 0', () => given({ distillationTemperature: 0 }), /temperature is 0/],
  ['a depth dropout of 1', () => given({ depthDropout: 1 }), /depthDropout is 1; it must be/],
  ['a cool-down beyond the run', () => given({ cooldownSteps: 5 }), /together above totalSteps 4/],
])('refuses %s and gives back what it loaded', async (name, changes, message) => {
  await expect(run(changes())).rejects.toMatchObject({ message: expect.stringMatching(message) })
  // Only names of tensors need a model; all else is refused before text is prepared.
  expect(existsSync(join(folder, 'run'))).toBe(name === 'names of tensors that the model does not have')
  expect(addon.models.every(({ disposed }) => disposed)).toBe(true)
})
