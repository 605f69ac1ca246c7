// The public calls over the real addon: one queue per model that runs without the event loop, in the order of the calls,
// and aborts that stop computing. The addon must have been built.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Engine } from '../../lib/engine.js'
import { Model } from '../../lib/model.js'
import { Trainer } from '../../lib/trainer.js'
import { patternTokens } from './addon_support.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const config: ModelConfig = {
  vocab_size: 48,
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  max_position_embeddings: 32,
  num_recursions: 3,
  router: { type: 'expert_choice' },
}
/** Many layers, so that one of them takes a small part of a pass. */
const deep: ModelConfig = {
  vocab_size: 48,
  hidden_size: 192,
  intermediate_size: 768,
  num_hidden_layers: 24,
  num_attention_heads: 4,
  max_position_embeddings: 256,
}
const onCpu = { device: 'cpu', dtype: 'float32', seed: 3 } as const
const options = { learningRate: 0.01 }
const batch = [patternTokens(17), patternTokens(17)]
const deepBatch = [patternTokens(256), patternTokens(256)]

const root = mkdtempSync(join(tmpdir(), 'mor-queue-'))
afterAll(() => rmSync(root, { recursive: true }))

const turn = () => new Promise((resolve) => setImmediate(resolve))

function blockEventLoop(milliseconds: number): void {
  const until = performance.now() + milliseconds
  while (performance.now() < until);
}

async function duration(call: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await call()
  return performance.now() - began
}

it('runs what was asked for while the event loop is busy', async () => {
  await using model = await Model.create(config, onCpu)
  await using trainer = new Trainer(model, options)
  await trainer.step(batch)
  let ended = 0
  const steps = Array.from({ length: 50 }, () => trainer.step(batch).then(() => ended++))
  let turns = 0
  while (ended < steps.length) {
    blockEventLoop(200)
    await turn()
    turns++
  }
  // Steps that each waited for a turn of the event loop would take 50 of them.
  expect(turns).toBeLessThan(25)
})

it('takes turns between queued calls and generation', async () => {
  await using model = await Model.create(config, onCpu)
  await using trainer = new Trainer(model, options)
  await using engine = new Engine(model)
  const steps = Promise.allSettled(Array.from({ length: 2000 }, () => trainer.step(batch)))
  expect(await engine.generate([1, 2], { maxTokens: 5 }).result).toMatchObject({ finishReason: 'length' })
  expect(trainer.stepsDone).toBeLessThan(1000)
  await trainer.dispose()
  expect((await steps).at(-1)).toMatchObject({ status: 'rejected', reason: { code: 'DISPOSED' } })
})

describe('abort', () => {
  it.each(['forward', 'evaluate'] as const)('of %s stops computing', async (name) => {
    await using model = await Model.create(deep, onCpu)
    await using trainer = new Trainer(model, options)
    const run = (signal?: AbortSignal) =>
      name === 'forward' ? model.forward(deepBatch, { signal }) : trainer.evaluate(deepBatch, { signal })
    await run()
    const whole = await duration(run)
    const controller = new AbortController()
    const aborted = run(controller.signal)
    await new Promise((resolve) => setTimeout(resolve, whole / 20))
    controller.abort('enough')
    const rest = await duration(async () => {
      await expect(aborted).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' })
      await model.forward([[1]])
    })
    expect(rest).toBeLessThan(0.7 * whole)
    await run()
  })

  it('of a step that waits takes it out of the queue', async () => {
    await using model = await Model.create(deep, onCpu)
    await using trainer = new Trainer(model, options)
    await trainer.step(batch)
    const controller = new AbortController()
    const running = trainer.step(deepBatch, { signal: controller.signal })
    const waiting = trainer.step(deepBatch, { signal: controller.signal })
    await new Promise((resolve) => setTimeout(resolve, 20))
    let stepped = false
    running.then(() => {
      stepped = true
    })
    controller.abort()
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' })
    expect(stepped).toBe(false)
    expect(await running).toMatchObject({ step: 2 })
    expect(await trainer.step(batch)).toMatchObject({ step: 3 })
  })

  it('rejects once, however often a program dispatches the event', async () => {
    await using model = await Model.create(deep, onCpu)
    const controller = new AbortController()
    const running = model.forward(deepBatch, { signal: controller.signal })
    await new Promise((resolve) => setTimeout(resolve, 20))
    for (let i = 0; i < 3; i++) controller.signal.dispatchEvent(new Event('abort'))
    controller.abort()
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' })
    await model.forward([[1]])
  })

  it('that comes when the call has ended does nothing, even of a signal that does not forget its listeners', async () => {
    await using model = await Model.create(config, onCpu)
    const listeners: (() => void)[] = []
    const signal = {
      aborted: false,
      addEventListener: (_: string, listener: () => void) => listeners.push(listener),
      removeEventListener: () => {
        throw new Error('not here')
      },
    } as unknown as AbortSignal
    for (let i = 0; i < 3; i++) await model.forward(batch, { signal })
    for (const listener of listeners) listener()
    expect(listeners.length).toBe(3)
    await model.forward(batch)
  })
})

it('saves what the weights are when save is called, whatever is asked for next', async () => {
  const save = async (name: string, steps: number) => {
    await using model = await Model.create(config, onCpu)
    await using trainer = new Trainer(model, options)
    const before = Array.from({ length: 2 }, () => trainer.step(batch))
    const saved = [trainer.save(join(root, name, 'trainer')), model.save(join(root, name, 'model'))]
    const after = Array.from({ length: steps }, () => trainer.step(batch))
    await Promise.all([...before, ...saved, ...after])
  }
  await save('then-steps', 5)
  await save('alone', 0)
  for (const kind of ['model', 'trainer']) {
    await using a = await Model.load(join(root, 'then-steps', kind), onCpuLoad)
    await using b = await Model.load(join(root, 'alone', kind), onCpuLoad)
    expect((await a.forward(batch)).logits).toEqual((await b.forward(batch)).logits)
    expect(readdirSync(join(root, 'then-steps', kind)).some((name) => name.startsWith('.'))).toBe(false)
  }
  const resumed = await Trainer.resume(join(root, 'then-steps', 'trainer'), { device: 'cpu' })
  expect(resumed.stepsDone).toBe(2)
  await resumed.model.dispose()
})

const onCpuLoad = { device: 'cpu', dtype: 'float32' } as const

describe('a second trainer', () => {
  it('of a model is refused until the first is disposed', async () => {
    await using model = await Model.create(config, onCpu)
    const first = new Trainer(model, options)
    expect(() => new Trainer(model, options)).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/has a trainer.*dispose it/),
      }),
    )
    await first.step(batch)
    first.dispose()
    await using second = new Trainer(model, options)
    expect(await second.step(batch)).toMatchObject({ step: 1 })
  })
})
