// Greedy decoding by one model.
import { type DeviceOption, Engine, Model, type ModelConfig } from '../../lib/index.js'
import { randomTokens } from '../lib/random_tokens.js'
import { median } from '../lib/statistics.js'
import type { Common, Find } from './findings.js'

export interface DecodeRequest {
  /** Of the figures. */
  name: string
  config: ModelConfig
  sequences: readonly number[]
  tokens: readonly [shorter: number, longer: number]
}

/** What the share of the bandwidth is made of, for one sequence. */
export interface DecodeFact {
  tokensPerSecond: number
  parameterBytes: number
}

const promptTokens = 32

export async function decode(request: DecodeRequest & Common, find: Find): Promise<void> {
  const { name, config, device, rounds } = request
  const begin = performance.now()
  await using model = await Model.create(config, { device: device as DeviceOption, seed: 1 })
  find({ figure: `create_${name}`, values: [(performance.now() - begin) / 1e3], unit: 's', note: 'random weights' })
  for (const sequences of request.sequences) {
    await using engine = new Engine(model, { maxBatchSize: Math.max(...request.sequences) })
    const rates: number[] = []
    for (let round = 0; round <= rounds; round++) rates.push(await rate(engine, sequences, request.tokens))
    const values = rates.slice(1) // the first one warms up
    const note = `${sequences} sequences, greedy`
    find({ figure: `decode_${name}_${sequences}`, values, unit: 'tokens/s', note })
    const value: DecodeFact = { tokensPerSecond: median(values), parameterBytes: model.memory().parameters }
    if (sequences === 1) find({ fact: name, value })
  }
}

/** Tokens per second of decoding alone, from the difference between a longer and a shorter generation. */
async function rate(engine: Engine, sequences: number, [shorter, longer]: DecodeRequest['tokens']): Promise<number> {
  const short = await generate(engine, sequences, shorter)
  const long = await generate(engine, sequences, longer)
  return (sequences * (longer - shorter)) / (long - short)
}

/** Seconds until all sequences have their tokens. */
async function generate(engine: Engine, sequences: number, maxTokens: number): Promise<number> {
  const begin = performance.now()
  const generations = Array.from({ length: sequences }, (_, i) =>
    engine.generate(randomTokens(promptTokens, engine.model.config.vocab_size, i + 1), { maxTokens, temperature: 0 }),
  )
  await Promise.all(generations.map(({ result }) => result))
  return (performance.now() - begin) / 1e3
}
