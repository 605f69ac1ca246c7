// Up-training on the real addon: what a trainer of a checkpoint begins with, what freezing and rates leave, and a resumed run.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { Model } from '../../lib/model.js'
import { readSafetensorsFile } from '../../lib/safetensors.js'
import { Trainer } from '../../lib/trainer.js'
import type { TrainerOptions } from '../../lib/trainer_options.js'

vi.setConfig({ testTimeout: 60_000 })

const root = mkdtempSync(join(tmpdir(), 'mor-up-training-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

const config = {
  vocab_size: 64,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 5,
  num_attention_heads: 2,
  num_recursions: 3,
  router: { type: 'expert_choice' as const, selection: 'topk' as const },
}
const batch = (step: number) =>
  Array.from({ length: 2 }, (_, row) => Int32Array.from({ length: 17 }, (_, i) => (7 * i + 13 * row + step) % 64))

/** The bytes of every tensor of a checkpoint. */
async function tensorsOf(folder: string): Promise<Map<string, string>> {
  const file = await readSafetensorsFile(join(folder, 'model.safetensors'))
  const bytes = readFileSync(file.path)
  return new Map(
    file.tensors.map(({ name, offset, bytes: size }) => [name, bytes.subarray(offset, offset + size).toString('hex')]),
  )
}

const start = join(root, 'start')
const ready = (async () => {
  await using model = await Model.create(config, { seed: 3, dtype: 'bfloat16' })
  await using trainer = new Trainer(model, { learningRate: 1e-2 })
  for (let step = 0; step < 2; step++) await trainer.step(batch(step))
  await trainer.save(start)
})()

async function trained(name: string, options: TrainerOptions, steps: number): Promise<string> {
  await ready
  const trainer = await Trainer.fromCheckpoint(start, { ...options, dtype: 'bfloat16' })
  await using _model = trainer.model
  for (let step = 0; step < steps; step++) await trainer.step(batch(step))
  await trainer.save(join(root, name))
  return join(root, name)
}

describe('a trainer of a checkpoint', () => {
  it('begins with the float32 weights of its files and a fresh optimizer', async () => {
    const folder = await trained('untouched', { learningRate: 1e-2 }, 0)
    expect(await tensorsOf(folder)).toEqual(await tensorsOf(start))
    const trainer = await Trainer.resume(folder)
    await using _model = trainer.model
    expect(trainer.stepsDone).toBe(0)
  })

  it('leaves frozen tensors and changes the others', async () => {
    const groups = [
      { pattern: 'model.embed_tokens*', frozen: true },
      { pattern: 'model.layers.1.*', learningRate: 0 },
    ]
    const before = await tensorsOf(start)
    const after = await tensorsOf(await trained('frozen', { learningRate: 1e-2, parameterGroups: groups }, 2))
    for (const [name, bytes] of after) {
      const stays = name === 'model.embed_tokens.weight' || name.startsWith('model.layers.1.')
      expect(bytes === before.get(name), name).toBe(stays)
    }
  })

  it('goes on after a resume as if it had never stopped', async () => {
    const options: TrainerOptions = {
      learningRate: 1e-2,
      parameterGroups: [
        { pattern: '*norm*', frozen: true },
        { pattern: '*routers*', learningRate: 1e-1, weightDecay: 0 },
      ],
      depthSchedule: { from: 1, steps: 4 },
    }
    const whole = await tensorsOf(await trained('whole', options, 6))
    const part = await trained('part', options, 3)
    const resumed = await Trainer.resume(part)
    await using _model = resumed.model
    const depths = []
    for (let step = 3; step < 6; step++) depths.push((await resumed.step(batch(step))).depthHistogram)
    expect(depths.map((histogram) => histogram[2]! > 0)).toEqual([false, true, true])
    await resumed.save(part)
    expect(await tensorsOf(part)).toEqual(whole)
  })
})
