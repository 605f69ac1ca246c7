// The passes of Model that return numbers, by the real addon: each against the logits of all positions. The addon must have
// been built.
import { afterAll, describe, expect, it, vi } from 'vitest'
import type { ModelConfig } from '../../lib/config.js'
import { Model } from '../../lib/model.js'
import { configs, patternTokens } from './addon_support.js'

vi.setConfig({ testTimeout: 60_000 })

const open: Model[] = []
afterAll(() => Promise.all(open.map((model) => model.dispose())))

async function newModel(config: object): Promise<Model> {
  const model = await Model.create(config as ModelConfig, { dtype: 'float32', device: 'cpu', seed: 1 })
  open.push(model)
  return model
}

const length = 10
const rows = [patternTokens(length), patternTokens(2 * length).slice(length)]
const routings = [
  { routing: 'topk' },
  { routing: 'threshold' },
  { routing: 'threshold', routerThreshold: 0.501 },
  { maxRecursions: 1 },
] as const

describe.each(Object.entries(configs))('%s', (_, config) => {
  const usable = routings.filter((options) => {
    if ('routerThreshold' in options) return (config as ModelConfig).router?.type === 'expert_choice'
    return !('maxRecursions' in options && 'sharing' in config) // "sequence" always runs every recursion
  })

  it('gives the logits of chosen positions', async () => {
    const model = await newModel(config)
    for (const options of usable) {
      const all = await model.forward(rows, options)
      const vocab = all.shape[2]
      const at = (row: number, position: number) => {
        const start = (row * length + position) * vocab
        return [...all.logits.subarray(start, start + vocab)]
      }
      const last = await model.forward(rows, { ...options, positions: 'last' })
      expect(last.shape).toEqual([2, 1, vocab])
      expect([...last.logits]).toEqual([...at(0, 9), ...at(1, 9)])
      const chosen = await model.forward(rows, { ...options, positions: [7, 0] })
      expect(chosen.shape).toEqual([2, 2, vocab])
      expect([...chosen.logits]).toEqual([...at(0, 7), ...at(0, 0), ...at(1, 7), ...at(1, 0)])
      expect(chosen.depths).toEqual(all.depths)
    }
  })

  it('gives the log-probabilities of targets', async () => {
    const model = await newModel(config)
    const targets = rows.map((row) => Array.from(row, (token, i) => (i % 3 === 1 ? -1 : (token + 7) % 48)))
    for (const options of usable) {
      const { logits, depths, shape } = await model.forward(rows, options)
      const result = await model.logprobs(rows, targets, options)
      expect(result.shape).toEqual([2, length])
      expect(result.depths).toEqual(depths)
      targets.flat().forEach((target, i) => {
        const row = logits.subarray(i * shape[2], (i + 1) * shape[2])
        const sum = row.reduce((total, logit) => total + Math.exp(logit), 0)
        expect(result.logprobs[i]).toBeCloseTo(target < 0 ? 0 : row[target]! - Math.log(sum), 5)
      })
    }
  })

  it('gives hidden states by layer', async () => {
    const model = await newModel(config)
    const { num_hidden_layers: last, hidden_size: hidden } = model.config
    for (const options of usable) {
      const all = await model.hiddenStates(rows, options)
      expect(all.shape).toEqual([last + 1, 2, length, hidden])
      expect(all.hiddenStates).toHaveLength((last + 1) * 2 * length * hidden)
      const size = 2 * length * hidden
      const state = (layer: number) => all.hiddenStates.subarray(layer * size, (layer + 1) * size)
      const chosen = await model.hiddenStates(rows, { ...options, layers: [last, 1] })
      expect(chosen.shape).toEqual([2, 2, length, hidden])
      expect(chosen.hiddenStates.subarray(0, size)).toEqual(state(last))
      expect(chosen.hiddenStates.subarray(size)).toEqual(state(1))
      expect(chosen.depths).toEqual((await model.forward(rows, options)).depths)
      // Before any layer a token is its embedding: equal tokens are equal, and layers then change them.
      const embedding = state(0)
      const flat = rows.flatMap((row) => [...row])
      const of = (i: number) => [...embedding.subarray(i * hidden, (i + 1) * hidden)]
      for (const [i, token] of flat.entries()) expect(of(i)).toEqual(of(flat.indexOf(token)))
      expect(state(1)).not.toEqual(embedding)
    }
  })
})

describe('bad input', () => {
  it.each<[object, RegExp]>([
    [{ positions: 'first' }, /positions is "first"; it must be "all" or "last"/],
    [{ positions: 3 }, /positions is 3; it must be a list of integers/],
    [{ positions: [] }, /positions is empty; list at least one, or leave positions out/],
    [{ positions: [10] }, /positions has 10; the rows have positions 0 to 9/],
    [{ positions: [-1] }, /positions has -1/],
    [{ positions: [0.5] }, /positions has 0.5/],
    [{ positions: [1, 2, 1] }, /positions has 1 twice; list it once/],
    [{ position: 1 }, /unknown key "position" \(did you mean "positions"/],
  ])('forward refuses %j', async (options, message) => {
    const model = await newModel(configs.vanilla)
    await expect(model.forward(rows, options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
  })

  it.each<[unknown, string, RegExp]>([
    [undefined, 'INVALID_ARGUMENT', /targets are undefined; there are 2 rows of tokens/],
    [[rows[0]], 'INVALID_ARGUMENT', /targets are 1 rows; there are 2 rows/],
    [[rows[0], 5], 'INVALID_ARGUMENT', /targets, row 1 is 5; it must be an array of token ids/],
    [[rows[0], [1, 2]], 'INVALID_ARGUMENT', /targets, row 1 has 2 ids, its tokens are 10; use -1 where none is wanted/],
    [
      [rows[0], Array(10).fill(48)],
      'TOKEN_OUT_OF_RANGE',
      /targets, row 1: .* index 0 is 48; .*0 to 47, and -1 stands for none/,
    ],
    [[rows[0], Array(10).fill(-2)], 'TOKEN_OUT_OF_RANGE', /is -2/],
  ])('logprobs refuses the targets %j', async (targets, code, message) => {
    const model = await newModel(configs.vanilla)
    await expect(model.logprobs(rows, targets as number[][])).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  it.each<[object, RegExp]>([
    [{ layers: [6] }, /layers has 6; this model has layers 0 to 4, and 5 is the input of the last norm/],
    [{ layers: [1, 1] }, /layers has 1 twice/],
    [{ layers: 'last' }, /layers is "last"; it must be a list of integers/],
  ])('hiddenStates refuses %j', async (options, message) => {
    const model = await newModel(configs.vanilla)
    await expect(model.hiddenStates(rows, options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
  })
})

it('needs no targets, stops when it is aborted, and refuses when it is disposed', async () => {
  const model = await newModel(configs['expert choice'])
  const none = rows.map((row) => Array(row.length).fill(-1))
  expect([...(await model.logprobs(rows, none)).logprobs]).toEqual(Array(20).fill(0))
  const signal = AbortSignal.abort()
  await expect(model.logprobs(rows, rows, { signal })).rejects.toMatchObject({ code: 'ABORTED' })
  await expect(model.hiddenStates(rows, { signal })).rejects.toMatchObject({ code: 'ABORTED' })
  const controller = new AbortController()
  const running = [
    model.logprobs(rows, rows, { signal: controller.signal }),
    model.hiddenStates(rows, { signal: controller.signal }),
  ].map((call) => expect(call).rejects.toMatchObject({ code: 'ABORTED' }))
  controller.abort()
  await Promise.all(running)
  await model.dispose()
  await expect(model.logprobs(rows, rows)).rejects.toMatchObject({ code: 'DISPOSED' })
  await expect(model.hiddenStates(rows)).rejects.toMatchObject({ code: 'DISPOSED' })
})
