// Trainer: its options, steps in order, refusals, aborts and dispose.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Model } from '../../lib/model.js'
import { Trainer } from '../../lib/trainer.js'
import { type TrainerOptions, toNativeTrainerOptions } from '../../lib/trainer_options.js'
import { FakeAddon } from './fake_addon.js'
import { batch, config, options } from './small_trainer.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))

let folder: string
beforeEach(() => {
  addon = new FakeAddon()
  folder = mkdtempSync(join(tmpdir(), 'mor-trainer-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const settle = () => new Promise((resolve) => setTimeout(resolve, 5))
const weights = (index: number) => addon.models[index]!.tensors.map((tensor) => [...tensor.values])

describe('options', () => {
  it('default to the recipe', async () => {
    const trainer = new Trainer(await Model.create(config), options)
    expect(trainer.options).toEqual({
      learningRate: 0.01,
      schedule: { type: 'constant', warmupSteps: 0 },
      betas: [0.9, 0.95],
      epsilon: 1e-8,
      weightDecay: 0.1,
      gradientClip: 1,
      gradientAccumulation: 1,
      parameterGroups: [],
      depthSchedule: null,
      depthDropout: 0,
      capacityWarmupSteps: null,
      distillation: null,
      recompute: false,
      weightHashInterval: 100,
    })
  })

  it.each([
    [
      { type: 'constant', warmupSteps: 5 },
      { type: 'constant', warmupSteps: 5, totalSteps: 0, cooldownSteps: 0, minimumRatio: 0 },
    ],
    [
      { type: 'cosine', totalSteps: 100 },
      { type: 'cosine', warmupSteps: 0, totalSteps: 100, cooldownSteps: 0, minimumRatio: 0.1 },
    ],
    [
      { type: 'trapezoid', totalSteps: 100 },
      { type: 'trapezoid', warmupSteps: 5, totalSteps: 100, cooldownSteps: 20, minimumRatio: 0 },
    ],
  ] as const)('complete the schedule %j', async (schedule, expected) => {
    const { model, options: complete } = new Trainer(await Model.create(config), { ...options, schedule })
    expect(toNativeTrainerOptions(complete, model.config, []).schedule).toEqual(expected)
  })

  it.each<[object, RegExp]>([
    [{}, /learningRate is missing/],
    [{ learningRate: -1 }, /learningRate is -1; it must be a finite number >= 0/],
    [{ learningRate: 1e300 }, /learningRate is 1e\+300, which in float32 becomes Infinity;/],
    [{ learningRate: 1, epsilon: 1e-300 }, /epsilon is 1e-300, which in float32 becomes 0;/],
    [{ learningRate: 1, weightDecay: 1e300 }, /weightDecay is 1e\+300, which in float32 becomes Infinity;/],
    [{ learningRate: 1, gradientClip: 1e-300 }, /gradientClip is 1e-300, which in float32 becomes 0;/],
    [
      { learningRate: 1, parameterGroups: [{ pattern: '*norm*', learningRate: 1e300 }] },
      /parameterGroups\[0\]: learningRate is 1e\+300, which in float32 becomes Infinity;/,
    ],
    [{ learningRate: Number.POSITIVE_INFINITY }, /learningRate is Infinity; it must be a finite number >= 0/],
    [{ ...options, lr: 1 }, /unknown key "lr"/],
    [{ ...options, weightdecay: 1 }, /unknown key "weightdecay" \(did you mean "weightDecay"/],
    [{ ...options, betas: [0.9, 1] }, /betas is \[0.9,1\]; it must be two numbers >= 0 and < 1/],
    [{ ...options, betas: 0.9 }, /betas is 0.9/],
    [{ ...options, epsilon: 0 }, /epsilon is 0/],
    [{ ...options, gradientAccumulation: 0 }, /gradientAccumulation is 0/],
    [{ ...options, recompute: 'yes' }, /recompute is "yes"; it must be true or false/],
    [{ ...options, weightHashInterval: -1 }, /weightHashInterval is -1; it must be an integer/],
    [{ ...options, schedule: 'cosine' }, /schedule is "cosine"; it must be an object/],
    [
      { ...options, schedule: { type: 'linear' } },
      /type is "linear"; it must be "constant" or "cosine" or "trapezoid"/,
    ],
    [{ ...options, schedule: { type: 'cosine' } }, /totalSteps is missing/],
    [{ ...options, schedule: { type: 'cosine', totalSteps: 0 } }, /totalSteps is 0; it must be an integer from 1 to/],
    [
      { ...options, schedule: { type: 'constant', warmupSteps: -1 } },
      /warmupSteps is -1; it must be an integer from 0 to/,
    ],
    [
      { ...options, schedule: { type: 'trapezoid', totalSteps: 10, cooldownSteps: -1 } },
      /cooldownSteps is -1; it must be an integer from 0 to/,
    ],
    [
      { ...options, schedule: { type: 'cosine', totalSteps: 10, minimumRatio: 1.5 } },
      /minimumRatio is 1.5; it must be a finite number >= 0 and <= 1/,
    ],
    [
      { ...options, schedule: { type: 'cosine', totalSteps: 10, warmupSteps: 11 } },
      /warmupSteps 11 is above totalSteps 10/,
    ],
    [{ ...options, schedule: { type: 'constant', totalSteps: 10 } }, /unknown key "totalSteps"/],
    [{ ...options, schedule: { type: 'trapezoid', totalSteps: 10, minimumRatio: 0.1 } }, /unknown key "minimumRatio"/],
    [{ ...options, schedule: { type: 'cosine', totalSteps: 10, cooldownSteps: 2 } }, /unknown key "cooldownSteps"/],
    [
      { ...options, schedule: { type: 'trapezoid', totalSteps: 10, warmupSteps: 6, cooldownSteps: 5 } },
      /warmupSteps 6 and cooldownSteps 5 are together above totalSteps 10/,
    ],
    [{ ...options, depthSchedule: { from: 2 } }, /depthSchedule: steps is missing/],
    [{ ...options, depthSchedule: { steps: 0 } }, /depthSchedule: steps is 0; it must be an integer from 1 to/],
    [{ ...options, depthSchedule: { from: 4, steps: 9 } }, /depthSchedule: from is 4, but .* num_recursions 3/],
    [{ ...options, depthDropout: 1 }, /depthDropout is 1; it must be a finite number >= 0 and < 1/],
    [{ ...options, parameterGroups: {} }, /parameterGroups is {}; it must be an array/],
    [{ ...options, parameterGroups: [{ frozen: true }] }, /parameterGroups\[0\]: pattern is undefined/],
    [{ ...options, parameterGroups: [{ pattern: '*' }] }, /parameterGroups\[0\]: nothing is given for its tensors/],
    [{ ...options, parameterGroups: [{ pattern: '*', frozen: true }] }, /freezes every tensor/],
  ])('refuse %j', async (wrong, message) => {
    const model = await Model.create(config)
    expect(() => new Trainer(model, wrong as TrainerOptions)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) }),
    )
  })
})

describe('options of distillation and capacity', () => {
  const vanilla = { ...config, num_recursions: 1, router: null }

  it('reach the addon with the teacher', async () => {
    const [model, teacher] = [await Model.create(config), await Model.create(vanilla)]
    const trainer = new Trainer(model, {
      ...options,
      depthSchedule: { steps: 5 },
      depthDropout: 0.25,
      capacityWarmupSteps: 3,
      distillation: { teacher, temperature: 2 },
    })
    expect(trainer.teacher).toBe(teacher)
    expect(trainer.options).toMatchObject({
      depthSchedule: { steps: 5, from: 1 },
      distillation: { temperature: 2, weight: 0.5 },
    })
    expect(JSON.parse(JSON.stringify(trainer.options))).toEqual(trainer.options)
    expect(addon.trainers[0]!.options).toMatchObject({
      depthSchedule: { steps: 5, from: 1, dropout: 0.25 },
      capacityWarmupSteps: 3,
      distillation: { teacher: teacher.native, temperature: 2, weight: 0.5 },
    })
  })

  it.each<[object, object, RegExp]>([
    [vanilla, { depthDropout: 0.5 }, /depthDropout: the model has num_recursions 1, so its depth cannot vary/],
    [vanilla, { capacityWarmupSteps: 5 }, /only an "expert_choice" router has capacities, but the model has no router/],
    [config, { distillation: {} }, /distillation: teacher is undefined; give a model/],
    [config, { distillation: { teacher: 'folder' } }, /distillation: teacher is "folder"; give a model/],
    [config, { distillation: { teacher: null, weight: 2 } }, /distillation: weight is 2/],
    [config, { distillation: { temperature: 0 } }, /distillation: temperature is 0; it must be a finite number > 0/],
  ])('of %j refuse %j', async (own, wrong, message) => {
    const model = await Model.create(own as ModelConfig)
    expect(() => new Trainer(model, { ...options, ...wrong } as TrainerOptions)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) }),
    )
  })

  it('refuse a teacher of another vocabulary or dtype, and the model itself', async () => {
    const model = await Model.create(config)
    const refuse = (teacher: Model, message: RegExp) =>
      expect(() => new Trainer(model, { ...options, distillation: { teacher } })).toThrow(message)
    refuse(model, /a model cannot be its own teacher/)
    refuse(
      await Model.create({ ...vanilla, vocab_size: 17 }),
      /the vocabulary of the teacher has 17 tokens and that of the model 16/,
    )
    refuse(
      await Model.create(vanilla, { dtype: 'float32' }),
      /the teacher has dtype "float32" and the model "bfloat16"; load both with the same dtype/,
    )
  })
})

describe('step', () => {
  it('reports the step and its speed', async () => {
    const trainer = new Trainer(await Model.create(config), options)
    expect(trainer.stepsDone).toBe(0)
    const result = await trainer.step(batch)
    expect(result).toMatchObject({ step: 1, tokens: 6, tokensPerSecond: 12, learningRate: 0.01 })
    expect(trainer.stepsDone).toBe(1)
  })

  it('queues steps that are asked for at once', async () => {
    const trainer = new Trainer(await Model.create(config), options)
    const results = await Promise.all([trainer.step(batch), trainer.step(batch), trainer.step(batch)])
    expect(results.map(({ step }) => step)).toEqual([1, 2, 3])
  })

  it('splits the batch into micro-batches in order', async () => {
    const trainer = new Trainer(await Model.create(config), { ...options, gradientAccumulation: 2 })
    expect(await trainer.step(batch)).toMatchObject({ tokens: 6 })
    await expect(trainer.step([...batch, batch[0]!])).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: 'the batch has 3 rows, which gradientAccumulation 2 does not divide',
    })
  })

  it.each<[number[][], string, RegExp]>([
    [[[1]], 'INVALID_ARGUMENT', /rows have 1 tokens; they need at least 2/],
    [[Array(10).fill(0)], 'CONTEXT_OVERFLOW', /rows have 10 tokens; the context holds 8 and one label/],
    [
      [
        [1, 2],
        [3, 99],
      ],
      'TOKEN_OUT_OF_RANGE',
      /row 1: the token at index 1 is 99/,
    ],
    [[[1, 2], [3]], 'INVALID_ARGUMENT', /rows have 1 tokens; they need at least 2/],
  ])('refuses the batch %j', async (rows, code, message) => {
    const trainer = new Trainer(await Model.create(config), options)
    await expect(trainer.step(rows)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    expect(addon.calls).not.toContain('step')
  })

  it('runs rows of one length together, and passes on which tokens count', async () => {
    const trainer = new Trainer(await Model.create(config), options)
    const rows = [{ tokens: [1, 2, 3], lossMask: [1, 0, 1] }, [4, 5], [6, 7, 8]]
    expect(await trainer.step(rows)).toMatchObject({ tokens: 5 })
    expect(addon.trainers[0]!.steps).toEqual([
      { tokens: [1, 2, 3, 6, 7, 8, 4, 5], counts: [1, 0, 1, 1, 1, 1, 1, 1], shapes: [2, 2, 1, 1] },
    ])
    expect(await trainer.evaluate(rows)).toMatchObject({ tokens: 5 })
  })

  it('takes a row of the whole context and its label', async () => {
    const trainer = new Trainer(await Model.create(config), options)
    expect(await trainer.step([Array(9).fill(0)])).toMatchObject({ tokens: 8 })
  })

  it('passes a refused step on and goes on after it', async () => {
    const model = await Model.create(config)
    const broken = new Trainer(model, { learningRate: 1e7 })
    const before = weights(0)
    await expect(broken.step(batch)).rejects.toMatchObject({ code: 'NON_FINITE' })
    expect(weights(0)).toEqual(before)
    expect(broken.stepsDone).toBe(0)
    await expect(broken.evaluate(batch)).resolves.toMatchObject({ loss: 1, tokensPerSecond: 12 })
  })

  it('takes turns with the other calls of the model', async () => {
    const model = await Model.create(config)
    const trainer = new Trainer(model, options)
    addon.calls.length = 0
    await Promise.all([
      trainer.step(batch),
      model.forward([[1]]),
      trainer.evaluate(batch, { routing: 'topk' }),
      model.save(folder),
      trainer.step(batch),
    ])
    expect(addon.calls).toEqual(['createTrainer', 'step', 'forward', 'evaluate topk', 'save', 'step'])
  })

  it('drops an aborted step that waits, and finishes one that runs', async () => {
    const trainer = new Trainer(await Model.create(config), options)
    await trainer.step(batch)
    const controller = new AbortController()
    const { signal } = controller
    addon.gate.close()
    const running = trainer.step(batch, { signal })
    const waiting = trainer.step(batch, { signal })
    const evaluation = trainer.evaluate(batch, { signal })
    await settle()
    controller.abort()
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' })
    await expect(evaluation).rejects.toMatchObject({ code: 'ABORTED' })
    addon.gate.open()
    expect(await running).toMatchObject({ step: 2 })
    expect(await trainer.step(batch)).toMatchObject({ step: 3 })
    await expect(trainer.step(batch, { signal })).rejects.toMatchObject({ code: 'ABORTED' })
  })
})

describe('dispose', () => {
  it('of the trainer leaves the model alive; calls under way and later reject', async () => {
    const model = await Model.create(config)
    const trainer = new Trainer(model, options)
    await trainer.step(batch)
    addon.gate.close()
    const running = trainer.step(batch)
    const queued = trainer.step(batch)
    await settle()
    const disposing = Promise.all([trainer.dispose(), trainer.dispose()])
    addon.gate.open()
    await expect(running).rejects.toMatchObject({ code: 'DISPOSED' })
    await expect(queued).rejects.toMatchObject({ code: 'DISPOSED' })
    await disposing
    await expect(trainer.step(batch)).rejects.toMatchObject({ code: 'DISPOSED' })
    await expect(trainer.evaluate(batch)).rejects.toMatchObject({ code: 'DISPOSED' })
    await expect(trainer.save(folder)).rejects.toMatchObject({ code: 'DISPOSED' })
    await expect(model.forward([[1]])).resolves.toBeDefined()
  })

  it('of the model ends its trainer', async () => {
    const model = await Model.create(config)
    await using trainer = new Trainer(model, options)
    addon.gate.close()
    const running = trainer.step(batch)
    await settle()
    const disposing = model.dispose()
    addon.gate.open()
    await expect(running).rejects.toMatchObject({ code: 'DISPOSED' })
    await disposing
    await expect(trainer.step(batch)).rejects.toMatchObject({ code: 'DISPOSED' })
    expect(() => new Trainer(model, options)).toThrow(expect.objectContaining({ code: 'DISPOSED' }))
  })
})
