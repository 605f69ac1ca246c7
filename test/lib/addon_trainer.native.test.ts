// The real addon's trainers: learning, state to files and back, bad steps, and steps that wait for each other. The addon
// must have been built.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import {
  addonFixture,
  configs,
  filesToRead,
  forward,
  type Named,
  nativeConfig,
  patternTokens,
  slowConfig,
  slowStep,
  tinyStep,
  writeFile,
} from './addon_support.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const { folder, newModel, newTrainer } = addonFixture()

describe.each(Object.keys(configs) as (keyof typeof configs)[])('%s', (name) => {
  const config = nativeConfig(name)

  it.each(['float32', 'bfloat16'] as const)('learns a pattern in %s', async (dtype) => {
    const model = await newModel(config, dtype)
    const trainer = newTrainer(model)
    const first = await tinyStep(trainer)
    expect(first).toMatchObject({ step: 1, tokens: 64, learningRate: 0.01 })
    expect(first.lmLoss).toBeCloseTo(Math.log(config.vocabSize), 0)
    expect(first.depthHistogram).toHaveLength(config.numRecursions)
    expect(first.depthHistogram.reduce((sum, n) => sum + n, 0)).toBe(64)
    const byThreshold = config.router?.selection === 'threshold'
    expect(first.routingAccuracy === null).toBe(config.router?.type !== 'expert_choice' || byThreshold)
    expect(first.routerThresholds).toEqual(byThreshold ? new Array(config.numRecursions).fill(0) : null)
    expect(first.selectedShares === null).toBe(config.router?.type !== 'expert_choice')
    expect(first.maxVio === null).toBe(config.router?.type !== 'token_choice')
    let last = first
    while (last.step < 30) last = await tinyStep(trainer)
    expect(last.lmLoss).toBeLessThan(first.lmLoss / 2)
    const evaluated = await trainer.evaluate(patternTokens(4 * 17), null, Int32Array.of(4, 16), 'threshold')
    expect(evaluated.lmLoss).toBeLessThan(first.lmLoss / 2)
  })

  it.each(['float32', 'bfloat16'] as const)('goes on from saved %s state bit for bit', async (dtype) => {
    const model = await newModel(config, dtype)
    const trainer = newTrainer(model)
    for (let i = 0; i < 3; i++) await tinyStep(trainer)

    const names = trainer.tensors()
    const parameters = model.parameters()
    const hasMaster = new Set(names.map((tensor) => tensor.name))
    const weights = parameters.map(({ name, shape }) => ({
      name: hasMaster.has(`master.${name}`) ? `master.${name}` : name,
      shape,
    }))
    const write = (tensors: Named[], path: string) => writeFile(trainer, tensors, 'F32', path)
    const others = names.filter((tensor) => !tensor.name.startsWith('master.'))
    await write(weights, join(folder, 'masters.safetensors'))
    await write(others, join(folder, 'state.safetensors'))

    const resumed = await newModel(config, dtype, 2)
    const files = await filesToRead(join(folder, 'masters.safetensors'))
    const renamed = files[0]!.tensors.map((tensor) => ({ ...tensor, name: tensor.name.replace('master.', '') }))
    await resumed.read([{ path: files[0]!.path, tensors: renamed }])
    const second = newTrainer(resumed)
    const masters = files[0]!.tensors.filter(({ name }) => name.startsWith('master.'))
    await second.read(
      [{ path: files[0]!.path, tensors: masters }, ...(await filesToRead(join(folder, 'state.safetensors')))],
      3,
    )
    expect(second.stepsDone()).toBe(3)
    for (let i = 0; i < 2; i++) {
      const [{ seconds: _a, ...expected }, { seconds: _b, ...actual }] = [
        await tinyStep(trainer),
        await tinyStep(second),
      ]
      expect({ ...actual, memoryBytes: 0 }).toEqual({ ...expected, memoryBytes: 0 })
    }
    expect((await forward(resumed)).logits).toEqual((await forward(model)).logits)
  })
})

describe('bad input', () => {
  const config = nativeConfig('expert choice')

  it('refuses a step that is not finite and changes nothing', async () => {
    const model = await newModel(config)
    const trainer = newTrainer(model)
    await tinyStep(trainer)
    const count = config.hiddenSize
    const path = join(folder, 'nan.bin')
    const norm = { name: 'model.norm.weight', shape: [count] }
    const good = join(folder, 'good-norm.safetensors')
    await writeFile(model, [norm], 'F32', good)
    writeFileSync(path, Buffer.from(new Float32Array(count).fill(Number.NaN).buffer))
    await model.read([{ path, tensors: [{ name: norm.name, dtype: 'F32', offset: 0, bytes: 4 * count }] }])
    await expect(tinyStep(trainer)).rejects.toMatchObject({ code: 'NON_FINITE' })
    expect(trainer.stepsDone()).toBe(1)
    await model.read(await filesToRead(good))
    expect((await tinyStep(trainer)).step).toBe(2)
  })
})

describe('lifetime', () => {
  it('queues two steps at once', async () => {
    const trainer = newTrainer(await newModel(nativeConfig('expert choice')))
    const steps = await Promise.all([tinyStep(trainer), tinyStep(trainer), tinyStep(trainer)])
    expect(steps.map(({ step }) => step)).toEqual([1, 2, 3])
  })

  it('keeps the event loop free while it computes', async () => {
    const trainer = newTrainer(await newModel(slowConfig))
    let computing = true
    const steps = (async () => {
      const seconds: number[] = []
      while (seconds.length < 5) seconds.push((await slowStep(trainer)).seconds)
      computing = false
      return seconds
    })()
    const delays: number[] = []
    while (computing) {
      const began = performance.now()
      await new Promise((resolve) => setTimeout(resolve, 1))
      delays.push(performance.now() - began - 1)
    }
    const shortest = Math.min(...(await steps)) * 1000
    const p90 = delays.sort((a, b) => a - b)[Math.floor(delays.length * 0.9)]!
    // A call that blocked would delay a turn for a whole step. The bench measures the delay itself.
    expect(p90).toBeLessThan(shortest / 2)
  })
})
