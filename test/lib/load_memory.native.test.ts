// What a checkpoint takes of memory at its peak: loading it, the weights and at most one tensor more; converting it, a few of its
// tensors.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { Model } from '../../lib/model.js'
import { peakMemory } from './peak_memory.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const folder = mkdtempSync(join(tmpdir(), 'mor-load-memory-'))
const source = join(folder, 'source')
afterAll(() => rmSync(folder, { recursive: true }))

/** Weights of 42 million elements in tensors of at most 4 million. */
const config = {
  vocab_size: 8192,
  hidden_size: 512,
  intermediate_size: 2048,
  num_hidden_layers: 9,
  num_attention_heads: 8,
}
const LARGEST = 4 * 8192 * 512

beforeAll(async () => {
  await using model = await Model.create(config, { device: 'cpu', dtype: 'float32' })
  await model.save(source)
})

it.each(['float32', 'bfloat16'])('loading as %s: the weights and one tensor of the file', async (dtype) => {
  const work = `
    const model = await lib.Model.load(${JSON.stringify(source)}, { device: 'cpu', dtype: argument })
    return model.memory().parameters`
  const { peak, value: weights } = await peakMemory(work, dtype)
  expect(weights).toBeGreaterThan(80e6)
  expect(peak).toBeGreaterThan(0.9 * weights)
  expect(peak).toBeLessThan(weights + LARGEST + 10e6)
})

it.each(['recursive', 'model.gguf'])('converting to %s: three tensors of a file of 168 MB', async (name) => {
  const output = join(folder, name)
  const recursive = { recursions: 3, sharing: 'cycle', init: 'average' }
  const options = name === 'recursive' ? recursive : { dtype: 'bfloat16' }
  const work = `
    const { bytes } = await lib.convert(${JSON.stringify(source)}, ${JSON.stringify({ ...options, output })})
    return bytes`
  const { peak, value: bytes } = await peakMemory(work)
  expect(bytes).toBeGreaterThan(60e6)
  expect(peak).toBeLessThan(3 * LARGEST)
})
