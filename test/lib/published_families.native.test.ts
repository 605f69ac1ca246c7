// Folders in the shape in which each family of models is published, on the real addon: the forward pass, prefill and decode, and
// the gradients of training are those of an independent PyTorch implementation (test/fixtures/make_published.py).
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { Engine } from '../../lib/engine.js'
import { Model } from '../../lib/model.js'
import { Trainer } from '../../lib/trainer.js'
import { readTensors } from './safetensors_values.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const fixtures = join('test', 'fixtures', 'published')
const PROMPT = 8
const cpu = { device: 'cpu', dtype: 'float32' } as const

const saved = mkdtempSync(join(tmpdir(), 'mor-published-'))
afterAll(() => rmSync(saved, { recursive: true }))

/** The largest difference over the largest value. */
function relativeError(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [error, largest] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    error = Math.max(error, Math.abs(found[i]! - expected[i]!))
    largest = Math.max(largest, Math.abs(expected[i]!))
  }
  return found.length === expected.length ? error / largest : Number.NaN
}

const families = readdirSync(fixtures)

it('the table has every family', () => {
  expect(families.length).toBe(12)
})

describe.each(families)('%s', (family) => {
  const folder = join(fixtures, family)
  const load = () => Model.load(folder, cpu)
  const expected = readTensors(join(folder, 'expected.safetensors'))
  const row = [...expected('tokens')]

  it('has the logits of PyTorch, and says nothing of its files', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    await using model = await load()
    expect(warn.mock.calls).toEqual([])
    warn.mockRestore()
    const { logits } = await model.forward([row.slice(0, -1)])
    expect(relativeError(logits, expected('logits'))).toBeLessThan(2e-5)
  })

  it('goes on from a prompt as PyTorch does, alone and in two parts of the prompt', async () => {
    await using model = await load()
    await using whole = new Engine(model)
    await using parts = new Engine(model, { prefillChunk: 3, prefixCache: false })
    const ids = [...expected('greedy')]
    for (const engine of [whole, parts]) {
      const { tokens } = await engine.generate(row.slice(0, PROMPT), { maxTokens: ids.length, temperature: 0 }).result
      expect([...tokens]).toEqual(ids)
    }
  })

  it('has the loss and the gradients of PyTorch', async () => {
    await using model = await load()
    // With these options the first moment after one step is the gradient.
    const options = { learningRate: 0, betas: [0, 0.95], gradientClip: 0, weightDecay: 0 } as const
    await using trainer = new Trainer(model, options)
    const { lmLoss } = await trainer.step([row])
    expect(lmLoss).toBeCloseTo(expected('loss')[0]!, 5)
    await trainer.save(saved)
    const moments = readTensors(join(saved, 'trainer.safetensors'))
    const names = model.native.parameters().map(({ name }) => name)
    expect(names.length).toBeGreaterThan(15)
    for (const name of names) {
      expect(relativeError(moments(`exp_avg.${name}`), expected(`grad.${name}`)), name).toBeLessThan(2e-5)
    }
  })

  it('is saved with what its generation_config.json said', async () => {
    const said = JSON.parse(readFileSync(join(folder, 'generation_config.json'), 'utf8'))
    await using model = await load()
    await model.save(saved)
    expect(JSON.parse(readFileSync(join(saved, 'generation_config.json'), 'utf8'))).toEqual(said)
  })
})
