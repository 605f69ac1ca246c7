// A training checkpoint: what a run that is resumed has, the folders that are refused, and saves that did not end.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Model } from '../../lib/model.js'
import { readSafetensorsFile } from '../../lib/safetensors.js'
import { Trainer } from '../../lib/trainer.js'
import { FakeAddon } from './fake_addon.js'
import { batch, config, options } from './small_trainer.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))

let folder: string
beforeEach(() => {
  addon = new FakeAddon()
  folder = mkdtempSync(join(tmpdir(), 'mor-trainer-checkpoint-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const weights = (index: number) => addon.models[index]!.tensors.map((tensor) => [...tensor.values])

describe('save and resume', () => {
  it.each([
    ['float32', { type: 'expert_choice' }],
    ['bfloat16', { type: 'expert_choice' }],
    ['float32', { type: 'token_choice', balancing: 'loss_free' }],
    ['bfloat16', { type: 'token_choice', balancing: 'loss_free' }],
    ['bfloat16', { type: 'expert_choice', selection: 'threshold', threshold_momentum: 0.5 }],
  ] as const)('in %s with router %j is as if it had never stopped, bit for bit', async (dtype, router) => {
    const model = await Model.create({ ...config, router }, { dtype, seed: 7 })
    const trainer = new Trainer(model, { ...options, schedule: { type: 'cosine', totalSteps: 20 } })
    await trainer.step(batch)
    await trainer.step(batch)
    await trainer.save(folder)
    const resumed = await Trainer.resume(folder)
    expect(resumed.model.dtype).toBe(dtype)
    expect(resumed.options).toEqual(trainer.options)
    expect(resumed.stepsDone).toBe(2)
    for (let i = 0; i < 3; i++) expect(await resumed.step(batch)).toEqual(await trainer.step(batch))
    expect(weights(1)).toEqual(weights(0))
  })

  it.each(['float32', 'bfloat16'] as const)(
    'goes on in %s with groups, a schedule of depth and a teacher',
    async (dtype) => {
      const [model, teacher] = [await Model.create(config, { dtype, seed: 7 }), await Model.create(config, { dtype })]
      const trainer = new Trainer(model, {
        ...options,
        parameterGroups: [{ pattern: 'model.embed*', frozen: true }],
        depthSchedule: { steps: 5 },
        distillation: { teacher, weight: 0.25 },
      })
      await trainer.step(batch)
      await trainer.save(folder)
      const resumed = await Trainer.resume(folder, { distillation: { teacher } })
      expect(resumed.options).toEqual(trainer.options)
      for (let i = 0; i < 3; i++) expect(await resumed.step(batch)).toEqual(await trainer.step(batch))
      expect(weights(2)).toEqual(weights(0))
      await expect(Trainer.resume(folder)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/learns from a teacher: give distillation: \{ teacher \} to go on/),
      })
      expect((await Trainer.resume(folder, { distillation: null })).options.distillation).toBeNull()
      await expect(Trainer.resume(folder, { distillation: null, parameterGroups: [] })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/model.embed_tokens.weight was frozen and is to be trained/),
      })
    },
  )

  it('keeps float32 weights in a folder that Model.load reads', async () => {
    const model = await Model.create(config, { seed: 7 })
    const trainer = new Trainer(model, options)
    await trainer.step(batch)
    await trainer.save(folder)
    const file = await readSafetensorsFile(join(folder, 'model.safetensors'))
    expect(new Set(file.tensors.map(({ dtype }) => dtype))).toEqual(new Set(['F32']))
    await Model.load(folder)
    expect(weights(1)).toEqual(weights(0))
    await Model.load(folder, { dtype: 'float32' })
    expect(weights(2)).not.toEqual(weights(0))
  })

  it('can change options, and ignores undefined ones', async () => {
    const trainer = new Trainer(await Model.create(config), options)
    await trainer.save(folder)
    const resumed = await Trainer.resume(folder, { learningRate: 0.5, weightDecay: undefined })
    expect(resumed.options).toEqual({ ...trainer.options, learningRate: 0.5 })
    await expect(Trainer.resume(folder, { learningrate: 1 } as object)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
  })

  it('refuses files that are missing, broken or of different saves', async () => {
    const trainer = new Trainer(await Model.create(config), options)
    await trainer.save(folder)
    const failsWith = (code: string, message: RegExp) =>
      expect(Trainer.resume(folder)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })

    const jsonPath = join(folder, 'trainer.json')
    const json = JSON.parse(readFileSync(jsonPath, 'utf8'))
    writeFileSync(jsonPath, JSON.stringify({ ...json, format: 2 }))
    await failsWith('CHECKPOINT_INVALID', /format is 2; this version reads 1/)
    writeFileSync(jsonPath, JSON.stringify({ ...json, state: 3 }))
    await failsWith('CHECKPOINT_INVALID', /state is 3/)
    writeFileSync(jsonPath, JSON.stringify({ ...json, state: '{"step":' }))
    await failsWith('CHECKPOINT_INVALID', /state is not JSON/)
    writeFileSync(jsonPath, JSON.stringify({ ...json, state: '{"step":-1}' }))
    await failsWith('CHECKPOINT_INVALID', /state: step is -1; it must be an integer/)
    writeFileSync(jsonPath, JSON.stringify({ ...json, step: 5 }))
    await failsWith('CHECKPOINT_INVALID', /step is 5 and state.step is 0; they must be equal/)
    writeFileSync(jsonPath, JSON.stringify({ ...json, save_id: 'other' }))
    await failsWith(
      'CHECKPOINT_INVALID',
      /model.safetensors has save_id ".*" and .*trainer.json has "other": they are of different saves/,
    )
    writeFileSync(jsonPath, JSON.stringify(json))

    const statePath = join(folder, 'trainer.safetensors')
    cpSync(statePath, `${statePath}.kept`)
    rmSync(statePath)
    await failsWith('CHECKPOINT_MISSING', /trainer.safetensors is missing/)
    writeFileSync(statePath, readFileSync(`${statePath}.kept`).subarray(0, -4))
    await failsWith('CHECKPOINT_INVALID', /truncated/)
    cpSync(`${statePath}.kept`, statePath)

    await trainer.model.save(folder)
    await failsWith('CHECKPOINT_INVALID', /model.safetensors has save_id undefined/)
    rmSync(jsonPath)
    await failsWith('CHECKPOINT_MISSING', /trainer.json is missing/)
  })

  it('leaves the previous checkpoint whole when the disk is full', async () => {
    const trainer = new Trainer(await Model.create(config), options)
    await trainer.step(batch)
    await trainer.save(folder)
    await trainer.step(batch)
    addon.nextWriteError = Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC', syscall: 'write' })
    await expect(trainer.save(folder)).rejects.toMatchObject({ code: 'IO_ERROR' })
    expect((await Trainer.resume(folder)).stepsDone).toBe(1)
  })

  it('finishes a save whose process was killed when some of its files were in place', { timeout: 60_000 }, async () => {
    const [before, after] = [join(folder, 'before'), join(folder, 'after')]
    const trainer = new Trainer(await Model.create(config), options)
    await trainer.step(batch)
    await trainer.save(before)
    await trainer.step(batch)
    await trainer.save(after)
    const names = readdirSync(after)
    for (let placed = 0; placed <= names.length; placed++) {
      const killed = join(folder, String(placed))
      cpSync(before, killed, { recursive: true })
      names.forEach((name, i) => {
        cpSync(join(after, name), join(killed, i < placed ? '' : '.saved-x', name))
      })
      if (placed % 2 === 0) expect((await Trainer.resume(killed)).stepsDone).toBe(2)
      else await Model.load(killed)
      expect(readdirSync(killed)).toEqual(names)
      for (const name of names) expect(readFileSync(join(killed, name))).toEqual(readFileSync(join(after, name)))
    }
  })

  it('refuses a folder that another process saves into while it is read', async () => {
    const [read, newer] = [join(folder, 'read'), join(folder, 'newer')]
    const trainer = new Trainer(await Model.create(config), options)
    await trainer.save(read)
    await trainer.step(batch)
    await trainer.save(newer)
    const createTrainer = addon.createTrainer
    addon.createTrainer = (...given) => {
      cpSync(newer, read, { recursive: true })
      return createTrainer(...given)
    }
    await expect(Trainer.resume(read)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: `${read} was saved into while it was read; resume again`,
    })
    expect((await Trainer.resume(newer)).stepsDone).toBe(1)
  })

  it('gives the loaded model back when it cannot resume', async () => {
    const trainer = new Trainer(await Model.create(config), options)
    await trainer.save(folder)
    const parameterGroups = [{ pattern: 'model.embed*', frozen: true }]
    await expect(Trainer.resume(folder, { parameterGroups })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(addon.models[1]!.disposed).toBe(true)
  })

  it.each([
    [{ learningRate: -1 }, /learningRate is -1/],
    [{ parameterGroups: 'x' }, /parameterGroups is "x"/],
    [{ parameterGroups: [null] }, /parameterGroups\[0\] is null/],
    [{ parameterGroups: [{ frozen: true }] }, /parameterGroups\[0\]: pattern is undefined/],
  ])('says what is wrong with %j before it loads the model', async (changes, message) => {
    const trainer = new Trainer(await Model.create(config), options)
    await trainer.save(folder)
    await expect(Trainer.resume(folder, changes as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
    expect(addon.models.length).toBe(1)
  })
})
