// The real addon as a whole: its devices and constants, what its objects refuse, and how they end together. The addon must
// have been built.
import { describe, expect, it, vi } from 'vitest'
import { errorCodes, loadErrorCodes } from '../../lib/errors.js'
import { eventKind, eventStride, mostTopLogprobs } from '../../lib/native/engine.js'
import {
  addon,
  addonFixture,
  engineOptions,
  forward,
  forwardOptions,
  nativeConfig,
  slowConfig,
  slowStep,
  tinyStep,
  trainerOptions,
} from './addon_support.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const { newModel, newTrainer } = addonFixture()

describe('devices', () => {
  it('lists the CPU as usable', () => {
    const cpu = addon.devices().find(({ id }) => id === 'cpu')
    expect(cpu).toMatchObject({ type: 'cpu', usable: true })
    expect(cpu!.threads).toBeGreaterThan(0)
    expect(cpu!.memoryBytes).toBeGreaterThan(2 ** 28)
  })

  it('lists GPUs, or says why there is none', () => {
    const gpus = addon.devices().filter(({ type }) => type === 'cuda')
    expect(gpus).not.toHaveLength(0)
    for (const { id, usable, code, reason, memoryBytes, computeCapability } of gpus) {
      if (usable)
        expect([memoryBytes > 2 ** 30, computeCapability, code]).toEqual([true, expect.any(String), undefined])
      else expect([errorCodes.includes(code!), reason]).toEqual([true, expect.stringMatching(/device: 'cpu'/)])
      expect(id).toMatch(usable ? /^cuda:\d+$/ : /^cuda(:\d+)?$/)
    }
  })
})

it('repeats in TypeScript what it was compiled with', () => {
  const inTypeScript = { eventKind, eventStride, mostTopLogprobs }
  const { errorCodes: codes, ...others } = addon.constants
  expect(others).toEqual(inTypeScript)
  // The only error that does not come from the addon is that there is none.
  expect([...codes, ...loadErrorCodes]).toEqual(errorCodes)
})

describe('bad input', () => {
  const config = nativeConfig('expert choice')

  it('calls of every method', async () => {
    const model = await newModel(config)
    const trainer = newTrainer(model)
    const refused = (promise: Promise<unknown>, code: string, message: RegExp) =>
      expect(promise).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    const untyped = <T>(value: unknown) => value as T
    await refused(model.init(-1), 'INVALID_ARGUMENT', /seed must be an integer from 0 .* got -1/)
    await refused(model.forward(untyped([1]), 1, 1, forwardOptions), 'INVALID_ARGUMENT', /tokens must be an Int32Array/)
    await refused(
      model.forward(untyped(new Float64Array(1)), 1, 1, forwardOptions),
      'INVALID_ARGUMENT',
      /got a typed array of another type/,
    )
    await refused(model.forward(new Int32Array(5), 2, 3, forwardOptions), 'INVALID_ARGUMENT', /5 ids.* are 6/)
    await refused(model.forward(Int32Array.of(48), 1, 1, forwardOptions), 'TOKEN_OUT_OF_RANGE', /48 .*48/)
    await refused(model.forward(new Int32Array(33), 1, 33, forwardOptions), 'CONTEXT_OVERFLOW', /33 .*32/)
    await refused(trainer.step(new Int32Array(16), null, Int32Array.of(1, 16)), 'INVALID_ARGUMENT', /16 ids.* are 17/)
    await refused(trainer.step(Int32Array.of(1, -1), null, Int32Array.of(1, 1)), 'TOKEN_OUT_OF_RANGE', /-1/)
    await refused(
      trainer.evaluate(new Int32Array(2), null, Int32Array.of(1, 1), untyped('x')),
      'INVALID_ARGUMENT',
      /got 'x'/,
    )
    for (const [shapes, message] of [
      [[], /shapes must be pairs of a number of rows and their length/],
      [[1], /shapes must be pairs of a number of rows/],
      [[0, 1], /shapes must be pairs of numbers of at least 1/],
    ] as const) {
      await refused(trainer.step(new Int32Array(2), null, Int32Array.from(shapes)), 'INVALID_ARGUMENT', message)
    }
    await refused(
      trainer.step(new Int32Array(2), new Uint8Array(1), Int32Array.of(1, 1)),
      'INVALID_ARGUMENT',
      /counts has 1 elements, but tokens has 2 ids/,
    )
    await refused(
      trainer.step(new Int32Array(2), new Uint8Array(2), Int32Array.of(1, 1)),
      'INVALID_ARGUMENT',
      /no target counts/,
    )
    await refused(trainer.read([], -1), 'INVALID_ARGUMENT', /stepsDone must be an integer/)
    const thrown = (call: () => unknown, code: string, message: RegExp) =>
      expect(call).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }))
    for (const wrong of [{}, trainer]) {
      thrown(() => addon.createTrainer(untyped(wrong), trainerOptions), 'INVALID_ARGUMENT', /a model of this addon/)
    }
    thrown(
      () => addon.createTrainer(model, { ...trainerOptions, beta2: 1 }),
      'INVALID_ARGUMENT',
      /beta2 must be a number from 0 to 1, got 1/,
    )
    expect(() => addon.createEngine(model, { ...engineOptions, maxBatchSize: 0 }, () => undefined)).toThrow(
      /maxBatchSize must be an integer from 1/,
    )
    expect(() => addon.createEngine(model, engineOptions, untyped(1))).toThrow(/onEvents/)
    expect(() => Reflect.construct(model.constructor as never, [])).toThrow(/come from its functions only/)
    expect(() => model.memory.call(untyped(trainer))).toThrow('Illegal invocation')
    await tinyStep(trainer)
  })
})

describe('lifetime', () => {
  it('disposes twice, and says so in every call after', async () => {
    const model = await newModel(nativeConfig('expert choice'))
    const trainer = newTrainer(model)
    trainer.dispose()
    trainer.dispose()
    await expect(tinyStep(trainer)).rejects.toMatchObject({ code: 'DISPOSED', message: 'the trainer is disposed' })
    expect(() => trainer.tensors()).toThrow('the trainer is disposed')
    await forward(model)
    model.dispose()
    model.dispose()
    const disposed = { code: 'DISPOSED', message: 'the model is disposed' }
    await expect(forward(model)).rejects.toMatchObject(disposed)
    await expect(model.init(1)).rejects.toMatchObject(disposed)
    expect(() => addon.createTrainer(model, trainerOptions)).toThrow(expect.objectContaining(disposed))
    expect(() => model.parameters()).toThrow('the model is disposed')
    expect(() => model.memory()).toThrow('the model is disposed')
    expect(() => addon.createEngine(model, engineOptions, () => undefined)).toThrow('the model is disposed')
  })

  it.each(['model', 'trainer'] as const)(
    'dispose of the %s in mid-step refuses what runs and what waits',
    async (which) => {
      const model = await newModel(slowConfig)
      const trainer = newTrainer(model)
      const running = slowStep(trainer)
      const waiting = slowStep(trainer)
      await new Promise((resolve) => setTimeout(resolve, 5))
      ;(which === 'model' ? model : trainer).dispose()
      const results = await Promise.allSettled([running, waiting])
      for (const result of results) {
        expect(result).toMatchObject({
          status: 'rejected',
          reason: { code: 'DISPOSED', message: `the ${which} is disposed` },
        })
      }
      if (which === 'trainer') await forward(model)
    },
  )
})
