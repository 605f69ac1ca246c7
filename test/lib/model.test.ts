// Model: its options, the order of its calls, and aborts and dispose at every moment.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { type LoadOptions, Model } from '../../lib/model.js'
import { FakeAddon } from './fake_addon.js'
import { config } from './small_trainer.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))
beforeEach(() => {
  addon = new FakeAddon()
})

const root = mkdtempSync(join(tmpdir(), 'mor-model-'))
afterAll(() => rmSync(root, { recursive: true }))

/** Lets everything that can run now run. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 5))

describe('create', () => {
  it('is reproducible by seed', async () => {
    await Model.create(config, { seed: 3 })
    await Model.create(config, { seed: 3 })
    await Model.create(config, { seed: 4 })
    const [first, second, third] = addon.models.map((model) => model.tensors.map((tensor) => [...tensor.values]))
    expect(second).toEqual(first)
    expect(third).not.toEqual(first)
  })

  it('says what it was made of', async () => {
    const model = await Model.create(config)
    expect(model.device).toBe('cpu')
    expect(model.dtype).toBe('bfloat16')
    expect(model.config.num_key_value_heads).toBe(2)
    expect(model.memory().parameters).toBeGreaterThan(0)
  })

  it.each<[object, string, RegExp]>([
    [
      { dtype: 'float16' },
      'INVALID_ARGUMENT',
      /dtype is "float16"; it must be "bfloat16" or "float32" \(did you mean "bfloat16"/,
    ],
    [{ threads: -1 }, 'INVALID_ARGUMENT', /threads is -1/],
    [{ seed: 1.5 }, 'INVALID_ARGUMENT', /seed is 1.5/],
    [{ sed: 1 }, 'INVALID_ARGUMENT', /unknown key "sed" \(did you mean "seed"/],
    [{ device: 'cuda' }, 'DRIVER_MISSING', /device "cuda" cannot be used: no driver/],
    [{ device: 'tpu' }, 'INVALID_ARGUMENT', /device is "tpu"; this machine knows "auto", "cuda", "cpu"/],
  ])('refuses %j', async (options, code, message) => {
    await expect(Model.create(config, options)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    expect(addon.models).toHaveLength(0)
  })

  it('rejects before, during and not after an abort, and gives the memory back', async () => {
    await expect(Model.create(config, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' })
    expect(addon.models).toHaveLength(0)

    const controller = new AbortController()
    const stopped = addon.stopAt('init')
    const creating = Model.create(config, { signal: controller.signal })
    await stopped
    controller.abort()
    await expect(creating).rejects.toMatchObject({ code: 'ABORTED' })
    expect(addon.models[0]!.disposed).toBe(true)
    addon.gate.open()

    const late = new AbortController()
    const model = await Model.create(config, { signal: late.signal })
    late.abort()
    await expect(model.forward([[1]])).resolves.toBeDefined()
  })
})

describe('load', () => {
  it('has the options that it was called with, whatever the caller does with his', async () => {
    const folder = join(root, 'options')
    await (await Model.create(config)).save(folder)
    const options: LoadOptions = { dtype: 'float32', device: 'cpu' }
    const loading = Model.load(folder, options)
    Object.assign(options, { dtype: 'bfloat16', device: 'cuda', threads: -1, signal: AbortSignal.abort() })
    await expect(loading).resolves.toMatchObject({ dtype: 'float32', device: 'cpu' })
  })

  it('stops reading when it is aborted and gives the memory back at once', async () => {
    const folder = join(root, 'load')
    await (await Model.create(config)).save(folder)
    const controller = new AbortController()
    const stopped = addon.stopAt('read')
    const loading = Model.load(folder, { signal: controller.signal })
    await stopped
    controller.abort()
    await expect(loading).rejects.toMatchObject({ code: 'ABORTED' })
    expect(addon.models[1]!.disposed).toBe(true)
    addon.gate.open()
  })
})

describe('forward', () => {
  it('returns logits of [batch, length, vocab] and the depth of every token', async () => {
    const model = await Model.create(config)
    const { logits, shape, depths } = await model.forward([Int32Array.of(1, 2, 3), [4, 5, 6]])
    expect(shape).toEqual([2, 3, 16])
    expect(logits).toHaveLength(2 * 3 * 16)
    expect([...depths]).toEqual([3, 3, 3, 3, 3, 3])
  })

  it.each<[unknown, object, string, RegExp]>([
    [[], {}, 'INVALID_ARGUMENT', /the batch is \[\]; it must be an array of at least one row/],
    [[1, 2], {}, 'INVALID_ARGUMENT', /row 0 is 1; it must be an array of token ids/],
    [[[]], {}, 'INVALID_ARGUMENT', /rows have 0 tokens; they need at least 1/],
    [[[1, 2], [3]], {}, 'INVALID_ARGUMENT', /row 1 has 1 tokens, row 0 has 2/],
    [
      [
        [1, 2],
        [3, 16],
      ],
      {},
      'TOKEN_OUT_OF_RANGE',
      /row 1: the token at index 1 is 16; the vocabulary has ids 0 to 15/,
    ],
    [[[-1]], {}, 'TOKEN_OUT_OF_RANGE', /index 0 is -1/],
    [[[1.5]], {}, 'TOKEN_OUT_OF_RANGE', /index 0 is 1.5/],
    [[['a']], {}, 'TOKEN_OUT_OF_RANGE', /index 0 is "a"/],
    [[Array(9).fill(0)], {}, 'CONTEXT_OVERFLOW', /rows have 9 tokens; the context holds 8/],
    [[[1]], { routing: 'top-k' }, 'INVALID_ARGUMENT', /routing is "top-k"; .*did you mean "topk"/],
    [[[1]], { maxRecursions: 4 }, 'INVALID_ARGUMENT', /maxRecursions is 4; it must be an integer from 1 to 3/],
    [[[1]], { routerThreshold: 2 }, 'INVALID_ARGUMENT', /routerThreshold is 2/],
    [
      [[1]],
      { routing: 'topk', routerThreshold: 0.4 },
      'INVALID_ARGUMENT',
      /routerThreshold is 0.4, but routing is "topk".*: leave routerThreshold out, or make routing "threshold"/,
    ],
  ])('refuses %j with %j', async (tokens, options, code, message) => {
    const model = await Model.create(config)
    const call = model.forward(tokens as number[][], options)
    await expect(call).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    expect(addon.calls).not.toContain('forward')
  })

  it.each([
    [null, /routerThreshold is 0.5, but this model has no router: leave routerThreshold out/],
    [
      { type: 'token_choice' },
      /routerThreshold is 0.5, .* a router of type "token_choice", which has no threshold: leave/,
    ],
  ] as const)('refuses a threshold where the model has none: router %j', async (router, message) => {
    const model = await Model.create({ ...config, router })
    for (const routing of ['topk', 'threshold'] as const) {
      await expect(model.forward([[1]], { routing, routerThreshold: 0.5 })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(message),
      })
    }
  })

  it.each(['sequence', 'middle_sequence'] as const)('refuses fewer recursions with sharing %s', async (sharing) => {
    const num_hidden_layers = sharing === 'sequence' ? 6 : 8
    const model = await Model.create({ ...config, router: null, sharing, num_hidden_layers })
    await expect(model.forward([[1]], { maxRecursions: 2 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(
        new RegExp(`maxRecursions is 2, .*sharing "${sharing}".* all 3 recursions.*leave maxRecursions out`),
      ),
    })
    await expect(model.forward([[1]], { maxRecursions: 3 })).resolves.toMatchObject({ shape: [1, 1, 16] })
  })

  it('copies its input at once', async () => {
    const model = await Model.create(config, { dtype: 'float32' })
    const row = Int32Array.of(1, 2)
    const expected = await model.forward([row])
    const running = model.forward([row])
    row.fill(9)
    expect((await running).logits).toEqual(expected.logits)
  })

  it('runs calls one after another and drops an aborted one, queued or running', async () => {
    const model = await Model.create(config)
    const controller = new AbortController()
    addon.gate.close()
    const running = model.forward([[1]], { signal: controller.signal })
    const queued = model.forward([[2]], { signal: controller.signal })
    const last = model.forward([[3]])
    await settle()
    expect(addon.calls.filter((call) => call === 'forward')).toHaveLength(1)
    controller.abort()
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' })
    await expect(queued).rejects.toMatchObject({ code: 'ABORTED' })
    addon.gate.open()
    await expect(last).resolves.toBeDefined()
    expect(addon.calls.filter((call) => call === 'forward')).toHaveLength(2)
  })
})

describe('dispose', () => {
  it('rejects what runs, what waits and what comes later; twice is once', async () => {
    const model = await Model.create(config)
    addon.gate.close()
    const running = model.forward([[1]])
    const queued = model.save(join(root, 'disposed'))
    await settle()
    const disposing = Promise.all([model.dispose(), model.dispose()])
    await expect(running).rejects.toMatchObject({ code: 'DISPOSED' })
    await expect(queued).rejects.toMatchObject({ code: 'DISPOSED' })
    addon.gate.open()
    await disposing
    await expect(model.forward([[1]])).rejects.toMatchObject({ code: 'DISPOSED' })
    await expect(model.save(root)).rejects.toMatchObject({ code: 'DISPOSED' })
    expect(() => model.memory()).toThrow(expect.objectContaining({ code: 'DISPOSED' }))
  })

  it('happens at the end of `await using`', async () => {
    {
      await using model = await Model.create(config)
      expect(model.device).toBe('cpu')
    }
    expect(addon.models[0]!.disposed).toBe(true)
  })
})
