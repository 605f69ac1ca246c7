// The logits of a student and its teacher are never stored whole: neither in what the trainer counts nor in what the process takes.
import { expect, it, vi } from 'vitest'
import { peakMemory } from './peak_memory.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 120_000 })

const LENGTH = 512
const ROWS = 8
/** Of a chunk of logits, of one model (native/cpu/logit_chunk.h). */
const CHUNK = 2 ** 26

/** One step of a tiny model that learns from another one. */
function stepWith(vocabulary: number): Promise<{ peak: number; value: number }> {
  const work = `
    const config = {
      vocab_size: ${vocabulary}, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 1,
      max_position_embeddings: ${LENGTH},
    }
    const create = (seed) => lib.Model.create(config, { device: 'cpu', dtype: argument, seed })
    const distillation = { teacher: await create(2), temperature: 2, weight: 0.5 }
    const trainer = new lib.Trainer(await create(1), { distillation, learningRate: 1e-3 })
    const row = Array.from({ length: ${LENGTH + 1} }, (_, i) => (7 * i) % ${vocabulary})
    const { memoryBytes, distillationLoss } = await trainer.step(Array(${ROWS}).fill(row))
    if (!(distillationLoss > 0)) throw new Error('the teacher taught nothing')
    return memoryBytes`
  return peakMemory(work, 'float32')
}

it('what a step takes is bounded by chunks of logits, whatever the rows and the vocabulary', async () => {
  const [small, large] = [await stepWith(256), await stepWith(16384)]
  const logits = 4 * ROWS * LENGTH * 16384
  expect(logits).toBeGreaterThan(2 ** 28 - 1)
  // Counted: embedding, gradient and two moments of the larger vocabulary, and not one byte for a logit.
  const parameters = 4 * 16 * (16384 - 256)
  expect(large.value - small.value).toBeGreaterThanOrEqual(3 * parameters)
  expect(large.value - small.value).toBeLessThan(6 * parameters)
  // Taken: a chunk of each model's logits at most, and these parameters.
  expect(large.peak - small.peak).toBeLessThan(2 * CHUNK + 2 ** 24)
  expect(large.peak - small.peak).toBeGreaterThan(2 ** 25)
  expect(2 * CHUNK + 2 ** 24).toBeLessThan(logits)
})
