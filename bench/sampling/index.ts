// The sampling bench: what biases and penalties add to the steps of a full batch, plain and changed requests in turn.
import { Engine, type GenerateOptions, Model } from '../../lib/index.js'
import { presets } from '../../lib/presets.js'
import { decode } from '../generate/decode.js'
import { machine, threads } from '../lib/machine.js'
import { showProgress } from '../lib/progress.js'
import { randomTokens } from '../lib/random_tokens.js'
import { Report } from '../lib/report.js'
import { median } from '../lib/statistics.js'

const sequences = 64
const promptTokens = 128
const generatedTokens = 24
const biasedTokens = 300 // the most that OpenAI accepts
const config = presets['135M']

const plain = { temperature: 0.8, topP: 0.95 }
/** What is asked for beside `plain`. */
const changes: Record<string, Partial<GenerateOptions>> = {
  plain: {},
  presence_frequency: { presencePenalty: 0.5, frequencyPenalty: 0.5 },
  repetition: { repetitionPenalty: 1.1 },
  bias: { logitBias: bias() },
  everything: { presencePenalty: 0.5, frequencyPenalty: 0.5, repetitionPenalty: 1.1, logitBias: bias() },
}

export async function benchSampling(rounds: number): Promise<Report> {
  const report = new Report('sampling', machine())
  await using model = await Model.create(config, { device: 'cpu', threads, seed: 1 })
  await using engine = new Engine(model, { maxBatchSize: sequences, kvCacheBytes: 2 ** 29 })
  const times = new Map(Object.keys(changes).map((name): [string, number[]] => [name, []]))
  for (let round = -1; round < rounds; round++) {
    showProgress(round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`)
    for (const [name, change] of Object.entries(changes)) {
      const milliseconds = await stepTime(engine, { ...plain, ...change })
      if (round >= 0) times.get(name)!.push(milliseconds) // the first round warms up
    }
  }
  for (const [name, values] of times) {
    report.figure(name, values, 'ms/step', `${sequences} sequences, vocabulary ${config.vocab_size}`)
  }
  for (const [name, values] of times) {
    const over = values.map((value, round) => value / times.get('plain')![round]!)
    if (name !== 'plain') report.ratio(`${name}_over_plain`, median(over), 'round by round')
  }
  return report
}

/** Milliseconds of a decoding step. */
async function stepTime(engine: Engine, options: Partial<GenerateOptions>): Promise<number> {
  const stream = async function* (seed: number): AsyncGenerator<number> {
    const prompt = randomTokens(promptTokens, config.vocab_size, seed)
    const all = { ...options, maxTokens: generatedTokens + promptTokens, seed, ignoreEos: true }
    for await (const { token } of engine.generate(prompt, all)) yield token
  }
  const streams = Array.from({ length: sequences }, (_, i) => stream(i + 1))
  const { seconds, counted } = await decode(streams, generatedTokens)
  return (1000 * seconds * sequences) / counted
}

function bias(): Record<number, number> {
  const tokens = randomTokens(biasedTokens, config.vocab_size, 99)
  return Object.fromEntries([...tokens].map((token, i) => [token, (i % 9) - 4]))
}
