// Training steps of one model at one batch.
import { type DeviceOption, Model, type ModelConfig, Trainer } from '../../lib/index.js'
import { randomTokens } from '../lib/random_tokens.js'
import { median } from '../lib/statistics.js'
import type { Common, Find } from './findings.js'

const warmUpSteps = 3

export interface TrainRequest {
  /** Of the figures. */
  name: string
  config: ModelConfig
  batch: { rows: number; length: number }
}

/** What ratios are made of. */
export interface TrainFact {
  seconds: number
  memoryBytes: number
  /** Executed, per second. */
  flops: number
}

export async function train(request: TrainRequest & Common, find: Find): Promise<void> {
  const { name, config, batch, device, rounds } = request
  const { rows, length } = batch
  await using model = await Model.create(config, { device: device as DeviceOption, seed: 1 })
  await using trainer = new Trainer(model, { learningRate: 1e-4 })
  const steps = []
  for (let i = 0; i < warmUpSteps + rounds; i++) {
    const tokens = Array.from({ length: rows }, (_, row) =>
      randomTokens(length + 1, model.config.vocab_size, i * rows + row + 1),
    )
    steps.push(await trainer.step(tokens))
  }
  const measured = steps.slice(warmUpSteps)
  const note = `${rows} x ${length} tokens`
  find({ figure: `train_${name}_step`, values: measured.map(({ seconds }) => seconds * 1e3), unit: 'ms', note })
  find({ figure: `train_${name}`, values: measured.map((step) => step.tokensPerSecond), unit: 'tokens/s', note })
  find({ figure: `train_${name}_memory`, values: [measured[0]!.memoryBytes / 2 ** 20], unit: 'MiB', note })
  const value: TrainFact = {
    seconds: median(measured.map(({ seconds }) => seconds)),
    memoryBytes: measured[0]!.memoryBytes,
    flops: median(measured.map(({ flops, seconds }) => flops / seconds)),
  }
  find({ fact: name, value })
}
