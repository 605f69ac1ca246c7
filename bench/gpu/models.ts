// Measures training and decoding of whole presets on one GPU, in bfloat16.
import { type DeviceOption, Engine, Model, type PresetName, presets, Trainer } from '../../lib/index.js'
import { randomTokens } from '../lib/random_tokens.js'
import type { Report } from '../lib/report.js'
import { median } from '../lib/statistics.js'

/** Tokens of a training step. */
export const contextLength = 2048
const warmUpSteps = 3

/**
 * Steps of one row of 2048 tokens: time, memory, and use of the dense peak by the executed operations.
 * @returns the median seconds of a vanilla step.
 */
export async function benchTraining(
  report: Report,
  device: string,
  peakFlops: number,
  rounds: number,
): Promise<number> {
  const seconds: Record<string, number> = {}
  const use: Record<string, number> = {}
  const memory: Record<string, number> = {}
  for (const name of ['360M', '360M-mor-2', '360M-mor-3'] as const satisfies readonly PresetName[]) {
    await using model = await Model.create(presets[name], { device: device as DeviceOption, seed: 1 })
    await using trainer = new Trainer(model, { learningRate: 1e-4 })
    const steps = []
    for (let i = 0; i < warmUpSteps + rounds; i++) {
      steps.push(await trainer.step([randomTokens(contextLength + 1, model.config.vocab_size, i + 1)]))
    }
    const measured = steps.slice(warmUpSteps)
    const id = name.replaceAll('-', '_')
    const uses = measured.map(({ flops, seconds }) => flops / seconds / peakFlops)
    report.figure(
      `train_${id}_step`,
      measured.map(({ seconds }) => seconds * 1e3),
      'ms',
      '2048 tokens',
    )
    report.figure(
      `train_${id}`,
      measured.map(({ tokensPerSecond }) => tokensPerSecond),
      'tokens/s',
    )
    report.figure(`train_${id}_memory`, [measured[0]!.memoryBytes / 2 ** 20], 'MiB')
    report.ratio(`train_${id}_of_peak`, median(uses), 'executed FLOP/s over the dense peak')
    seconds[name] = median(measured.map((step) => step.seconds))
    memory[name] = measured[0]!.memoryBytes
    use[name] = median(uses)
  }
  report.ratio('train_mor_2_time_over_vanilla', seconds['360M-mor-2']! / seconds['360M']!)
  report.ratio('train_mor_2_memory_over_vanilla', memory['360M-mor-2']! / memory['360M']!)
  report.ratio('train_mor_3_use_over_vanilla', use['360M-mor-3']! / use['360M']!)
  return seconds['360M']!
}

/** Greedy decoding by one sequence and by 64, and the share of the copy bandwidth that reading the weights takes. */
export async function benchDecoding(report: Report, device: string, copyBytes: number, rounds: number): Promise<void> {
  for (const name of ['360M', '360M-mor-3', '1.7B'] as const satisfies readonly PresetName[]) {
    await using model = await Model.create(presets[name], { device: device as DeviceOption, seed: 1 })
    await using engine = new Engine(model, { maxBatchSize: 64 })
    const id = name.replaceAll(/\W/g, '_')
    for (const sequences of [1, 64]) {
      await decode(engine, sequences)
      const rates: number[] = []
      for (let round = 0; round < rounds; round++) rates.push(await decode(engine, sequences))
      report.figure(`decode_${id}_${sequences}`, rates, 'tokens/s', `${sequences} sequences, greedy`)
      // With random weights MoR's tokens may run any number of recursions, so only vanilla reads a known number of bytes.
      if (sequences === 1 && !name.includes('mor'))
        report.ratio(`decode_${id}_of_bandwidth`, (median(rates) * model.memory().parameters) / copyBytes)
    }
  }
}

const shortest = 32
const longest = 160

/** Tokens per second of decoding alone, from the difference between a longer and a shorter generation. */
async function decode(engine: Engine, sequences: number): Promise<number> {
  const short = await generate(engine, sequences, shortest)
  const long = await generate(engine, sequences, longest)
  return (sequences * (longest - shortest)) / (long - short)
}

/** Seconds until all sequences have their tokens. */
async function generate(engine: Engine, sequences: number, maxTokens: number): Promise<number> {
  const begin = performance.now()
  const generations = Array.from({ length: sequences }, (_, i) =>
    engine.generate(randomTokens(32, engine.model.config.vocab_size, i + 1), { maxTokens, temperature: 0 }),
  )
  await Promise.all(generations.map(({ result }) => result))
  return (performance.now() - begin) / 1e3
}
