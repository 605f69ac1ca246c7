// The inspect command: the figures of the preset table, by hand, from presets, files and checkpoint folders. The addon must have
// been built.
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { findConfig, findNewConfig } from '../../../lib/cli/config_source.js'
import { formatLayerMap, inspect } from '../../../lib/cli/inspect.js'
import { Output } from '../../../lib/cli/output.js'
import { resolveConfig } from '../../../lib/config.js'
import { Model } from '../../../lib/model.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { Trainer } from '../../../lib/trainer.js'
import { sharedData } from '../shared_data.js'
import { RecordingStream } from './recording_stream.js'

async function inspected(source: string, terminal: boolean, length?: number): Promise<RecordingStream> {
  const stream = new RecordingStream(terminal)
  await inspect(source, { length, dtype: 'bfloat16' }, new Output(stream))
  return stream
}

describe('inspect', () => {
  it('gives the figures as JSON', async () => {
    const [report] = (await inspected('135M', false, 100)).records
    expect(report).toMatchObject({
      type: 'inspect',
      kind: 'vanilla',
      parameters: { total: 134515008, layer: 3540096, uniqueLayers: 30 },
      layers: Array.from({ length: 30 }, (_, l) => l),
      // 30 layers, keys and values of 3 heads of 64, 2 bytes each.
      kvBytesPerToken: { dtype: 'bfloat16', bytes: 30 * 2 * 3 * 64 * 2 },
      flopsPerToken: { length: 100, head: 2 * 576 * 49152 },
    })
  })

  it('gives them as lines for people', async () => {
    const { text } = await inspected('360M-mor-3', true)
    expect(text).toContain(
      'Mixture-of-Recursions, 3 recursions, middle_cycle, expert_choice routing by threshold, recursion_wise KV cache',
    )
    expect(text).toContain('layer map   0 | 1 2 3 4 5 6 7 8 9 10 | 1 2 3 4 5 6 7 8 9 10 | 1 2 3 4 5 6 7 8 9 10 | 11')
    expect(text).toMatch(/parameters {2}165M \(165,\d{3},\d{3}\)/)
    expect(text).toMatch(/per token of a sequence of 2048, head included/)
  })

  it('shows the running thresholds of a checkpoint', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mor-inspect-'))
    const shape = {
      vocab_size: 257,
      hidden_size: 8,
      intermediate_size: 8,
      num_hidden_layers: 4,
      num_attention_heads: 2,
    }
    const router = { type: 'expert_choice', selection: 'threshold' } as const
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...shape, num_recursions: 2, router }))
    expect((await inspected(folder, false)).records[0]).toMatchObject({ routerThresholds: null })
    await using model = await Model.create({ ...shape, num_recursions: 2, router }, { dtype: 'bfloat16', seed: 1 })
    await using trainer = new Trainer(model, { learningRate: 0.01 })
    const rows = [Array.from({ length: 17 }, (_, i) => i * 3)]
    await trainer.step(rows)
    const expected = (await trainer.step(rows)).routerThresholds!
    await model.save(folder)
    const [report] = (await inspected(folder, false)).records
    const thresholds = (report as { routerThresholds: number[] }).routerThresholds
    expect(thresholds).toHaveLength(2)
    expect(thresholds[0]).toBe(0)
    expect(thresholds[1]).not.toBe(0)
    expect(thresholds[1]).toBeCloseTo(expected[1]!, 1)
    const { text } = await inspected(folder, true)
    expect(text).toContain('expert_choice routing by threshold, recursion_wise KV cache')
    expect(text).toContain(`thresholds  0.0000 ${thresholds[1]!.toFixed(4)}, scores of recursions 1 to N`)
  })

  it('draws every way of sharing', () => {
    const map = (sharing: string, depth: number) =>
      formatLayerMap(
        resolveConfig({
          vocab_size: 9,
          hidden_size: 8,
          intermediate_size: 8,
          num_hidden_layers: depth,
          num_attention_heads: 2,
          num_recursions: 2,
          sharing,
        }),
      )
    expect(map('cycle', 4)).toBe('0 1 | 0 1')
    expect(map('middle_cycle', 6)).toBe('0 | 1 2 | 1 2 | 3')
    expect(map('sequence', 4)).toBe('0 | 0 | 1 | 1')
  })

  const stories = sharedData('checkpoints/stories260K/config.json')
  it.skipIf(!stories)('reads a checkpoint folder and a file', async () => {
    const folder = join(stories!, '..')
    const [report] = (await inspected(folder, false)).records
    expect(report).toMatchObject({ kind: 'vanilla', parameters: { uniqueLayers: 5, embedding: 512 * 64 } })
    expect((await findConfig(folder)).vocab_size).toBe(512)
    expect(await findConfig(stories!)).toEqual(await findConfig(folder))
  })

  it('reads a file of Hugging Face as its folder', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mor-inspect-'))
    const shape = { vocab_size: 9, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2 }
    const file = { ...shape, model_type: 'llama', tokenizer_class: 'LlamaTokenizer' }
    writeFileSync(join(folder, 'config.json'), JSON.stringify(file))
    const config = await findConfig(join(folder, 'config.json'))
    expect(config).toMatchObject({ tie_word_embeddings: false, rms_norm_eps: 1e-6 })
    expect(await findConfig(folder)).toEqual(config)
  })

  it('refuses what is no model', async () => {
    await expect(findConfig('135M-mor')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('the presets are 135M,'),
    })
    await expect(findConfig(mkdtempSync(join(tmpdir(), 'mor-inspect-')))).rejects.toMatchObject({
      code: 'CHECKPOINT_MISSING',
    })
  })
})

describe('a new model', () => {
  const tokenizer = Tokenizer.byteLevel()

  it('of a preset takes the vocabulary of its tokenizer', async () => {
    expect(await findNewConfig('135M-mor-3', tokenizer)).toMatchObject({
      vocab_size: 257,
      eos_token_id: 256,
      hidden_size: 576,
      num_recursions: 3,
    })
  })

  it('of a file keeps its own vocabulary and ids where it has them', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'mor-inspect-')), 'model.json')
    const config = { hidden_size: 8, intermediate_size: 8, num_hidden_layers: 2, num_attention_heads: 2 }
    writeFileSync(path, JSON.stringify({ ...config, vocab_size: 320, bos_token_id: 7 }))
    expect(await findNewConfig(path, tokenizer)).toMatchObject({ vocab_size: 320, bos_token_id: 7, eos_token_id: 256 })
    writeFileSync(path, JSON.stringify({ ...config, hiden_size: 3 }))
    await expect(findNewConfig(path, tokenizer)).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringContaining('hiden_size'),
    })
    writeFileSync(path, '[1]')
    await expect(findNewConfig(path, tokenizer)).rejects.toMatchObject({ code: 'INVALID_CONFIG' })
    await expect(findNewConfig('nowhere.json', tokenizer)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})
