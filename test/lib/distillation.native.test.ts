// Distillation over the real addon: what is learned, a teacher's life, and that a run which stops in the middle of everything goes
// on bit for bit. The addon must have been built.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { convert } from '../../lib/convert.js'
import { Model } from '../../lib/model.js'
import { Trainer } from '../../lib/trainer.js'
import type { TrainerOptions } from '../../lib/trainer_options.js'
import { patternTokens } from './addon_support.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const vanilla: ModelConfig = {
  vocab_size: 48,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  max_position_embeddings: 32,
}

let folder: string
let teacherFolder: string
let studentFolder: string
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mor-up-training-'))
  teacherFolder = join(folder, 'teacher')
  studentFolder = join(folder, 'student')
  await using model = await Model.create(vanilla, { device: 'cpu', dtype: 'float32', seed: 5 })
  await model.save(teacherFolder)
  await convert(teacherFolder, { output: studentFolder, recursions: 2, router: { type: 'expert_choice' } })
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const rows = (step: number) =>
  [0, 1, 2, 3].map((row) => patternTokens(17).map((token) => (token * (step + row + 1)) % 48))
const masked = (step: number) => [
  { tokens: patternTokens(17), lossMask: Array.from({ length: 17 }, (_, i) => (i + step) % 3 > 0) },
  patternTokens(9),
]
const upTraining = (teacher: Model): TrainerOptions => ({
  learningRate: 1e-2,
  schedule: { type: 'cosine', totalSteps: 20, warmupSteps: 3 },
  parameterGroups: [
    { pattern: 'model.embed_tokens*', frozen: true },
    { pattern: 'model.layers.*.self_attn.q_proj*', frozen: true },
    { pattern: 'model.routers.*', learningRate: 5e-2, weightDecay: 0 },
  ],
  depthSchedule: { steps: 6 },
  capacityWarmupSteps: 5,
  distillation: { teacher, temperature: 2, weight: 0.25 },
})
const load = (path: string, dtype: 'float32' | 'bfloat16') => Model.load(path, { device: 'cpu', dtype, threads: 2 })
const logits = async (model: Model) => (await model.forward([patternTokens(12)])).logits

describe.each(['float32', 'bfloat16'] as const)('in %s', (dtype) => {
  it('a run that stops in the middle of schedule, groups and teacher goes on bit for bit', async () => {
    await using teacher = await load(teacherFolder, dtype)
    const whole = await Trainer.fromCheckpoint(studentFolder, {
      device: 'cpu',
      dtype,
      threads: 2,
      ...upTraining(teacher),
    })
    await using model = whole.model
    const recursions: number[] = []
    for (let step = 0; step < 4; step++) recursions.push((await whole.step(rows(step))).recursions)
    await whole.step(masked(1))
    const saved = join(folder, `run-${dtype}`)
    await whole.save(saved)
    const resumed = await Trainer.resume(saved, { device: 'cpu', threads: 2, distillation: { teacher } })
    await using other = resumed.model
    expect(resumed.options).toEqual(whole.options)
    expect(recursions).toEqual([1, 1, 1, 1])
    expect((await whole.evaluate(rows(0))).lossTokens).toBe(64)
    for (const batch of [rows(5), masked(2), rows(7)]) {
      const [a, b] = [await whole.step(batch), await resumed.step(batch)]
      for (const key of ['step', 'loss', 'lmLoss', 'distillationLoss', 'gradientNorm', 'learningRate'] as const) {
        expect(b[key], key).toBe(a[key])
      }
      expect([a.recursions, b.recursions]).toEqual(a.step <= 6 ? [1, 1] : [2, 2])
      expect(a.loss).toBeCloseTo(0.75 * a.lmLoss + 0.25 * a.distillationLoss + a.auxiliaryLoss, 4)
    }
    expect(await logits(other)).toEqual(await logits(model))
  })

  it('learns from its teacher what the text does not say', async () => {
    await using teacher = await load(teacherFolder, dtype)
    const trainer = await Trainer.fromCheckpoint(studentFolder, {
      device: 'cpu',
      dtype,
      threads: 2,
      learningRate: 3e-3,
      distillation: { teacher, weight: 1 },
    })
    await using _model = trainer.model
    const first = (await trainer.step(rows(0))).distillationLoss
    let last = first
    for (let step = 0; step < 30; step++) last = (await trainer.step(rows(0))).distillationLoss
    expect(last).toBeLessThan(first / 2)
  })
})

describe('a teacher', () => {
  it('stays in memory until its trainer is disposed, and is not trained meanwhile', async () => {
    const teacher = await load(teacherFolder, 'float32')
    await using student = await load(studentFolder, 'float32')
    const trainer = new Trainer(student, { learningRate: 1e-3, distillation: { teacher } })
    expect(() => new Trainer(teacher, { learningRate: 1e-3 })).toThrow(/is the teacher of another trainer/)
    const running = trainer.step(rows(0))
    await teacher.dispose()
    expect((await running).step).toBe(1)
    expect((await trainer.step(rows(1))).distillationLoss).toBeGreaterThan(0)
    await trainer.dispose()
    expect(() => new Trainer(student, { learningRate: 1e-3, distillation: { teacher } })).toThrow(/disposed/)
  })

  it('is refused while it is trained', async () => {
    await using teacher = await load(teacherFolder, 'float32')
    await using student = await load(studentFolder, 'float32')
    const own = new Trainer(teacher, { learningRate: 1e-3 })
    const options = { learningRate: 1e-3, distillation: { teacher } }
    expect(() => new Trainer(student, options)).toThrow(/the teacher has a trainer/)
    await own.dispose()
    await new Trainer(student, options).dispose()
    await new Trainer(teacher, { learningRate: 1e-3 }).dispose()
  })

  it('generates and is asked for logits while it teaches', async () => {
    await using teacher = await load(teacherFolder, 'float32')
    await using student = await load(studentFolder, 'float32')
    const before = await logits(teacher)
    const trainer = new Trainer(student, { learningRate: 1e-3, distillation: { teacher } })
    const steps = Promise.all([0, 1, 2, 3].map((step) => trainer.step(rows(step))))
    for (let i = 0; i < 20; i++) expect(await logits(teacher)).toEqual(before)
    expect((await steps).map(({ step }) => step)).toEqual([1, 2, 3, 4])
  })
})

it('keeps what is frozen, and the values of the checkpoint behind rounded weights', async () => {
  const trainer = await Trainer.fromCheckpoint(studentFolder, {
    device: 'cpu',
    dtype: 'bfloat16',
    threads: 2,
    learningRate: 1e-2,
    parameterGroups: [{ pattern: 'model.layers.*', frozen: true }],
  })
  await using _model = trainer.model
  const untouched = join(folder, 'untouched')
  await trainer.save(untouched)
  await using original = await load(studentFolder, 'float32')
  await using copy = await load(untouched, 'float32')
  // The frozen layers are saved as they are in the bfloat16 model; what is trained, as it is in the checkpoint.
  const embedding = async (model: Model) =>
    (await model.hiddenStates([patternTokens(12)], { layers: [0] })).hiddenStates
  expect(await embedding(copy)).toEqual(await embedding(original))
  const before = await logits(trainer.model)
  for (let step = 0; step < 3; step++) await trainer.step(rows(step))
  expect(await logits(trainer.model)).not.toEqual(before)
})
