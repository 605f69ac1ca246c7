// Seconds of a training step of the models of a study: all in one process, by turns, so that they can be compared.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Model, Tokenizer, Trainer } from '../../lib/index.js'
import { machine } from '../lib/machine.js'
import { table } from '../lib/report.js'
import { type Summary, summarize } from '../lib/statistics.js'
import { heldOutFile } from './corpus.js'
import { checkpointOf, type Places, runsWithModels } from './run.js'
import { batchSize, idOf, length, type StudyRun } from './study.js'

const rounds = 5
/** Of each model in a round. */
const steps = 8

/** The content of step_times.json: the times of one machine, measured together. */
export interface StepTimes {
  machine: string
  rounds: number
  steps: number
  /** Seconds of one step, by run. */
  runs: Record<string, Summary>
}

export const stepTimesFile = 'step_times.json'

/**
 * Measures the runs that have a model, and writes them all to the results. They begin at the trained models, whose routers have settled,
 * and learn at a rate of 0, so that every round does the same work. Teachers are left out.
 * @param corpus the folder of the held-out texts
 */
export async function timeSteps(runs: readonly StudyRun[], places: Places, corpus: string): Promise<void> {
  const present = runsWithModels(runs, places)
  const batches = await readBatches(checkpointOf(present[0]!, places), corpus)
  const models = await Promise.all(present.map((run) => Model.load(checkpointOf(run, places))))
  const series = models.map((model) => ({ trainer: settledTrainer(model), seconds: [] as number[] }))
  for (let round = 0; round <= rounds; round++) {
    for (const { trainer, seconds } of series) {
      for (const batch of batches) {
        const step = await trainer.step(batch)
        if (round > 0) seconds.push(step.seconds) // the first round warms up
      }
    }
  }
  for (const { trainer } of series) await trainer.dispose()
  for (const model of models) await model.dispose()
  const byId = Object.fromEntries(present.map((run, i) => [idOf(run), summarize(series[i]!.seconds)]))
  const result: StepTimes = { machine: machine(), rounds, steps, runs: byId }
  mkdirSync(places.results, { recursive: true })
  writeFileSync(join(places.results, stepTimesFile), `${JSON.stringify(result, null, 1)}\n`)
  const rows = Object.entries(byId).map(([id, { median, min, max }]) => [
    id,
    ...[median, min, max].map((one) => one.toFixed(3)),
  ])
  console.log(table(['run', 'seconds a step', 'min', 'max'], rows).join('\n'))
}

/** Recursions have their last capacities at once. */
function settledTrainer(model: Model): Trainer {
  const ofCapacities = model.config.router?.type === 'expert_choice' ? { capacityWarmupSteps: 0 } : {}
  return new Trainer(model, { learningRate: 0, ...ofCapacities })
}

/** Batches of held-out text, one for each step of a round: every round and every model has the same ones. */
async function readBatches(checkpoint: string, corpus: string): Promise<Int32Array[][]> {
  const tokenizer = await Tokenizer.load(checkpoint)
  const [line] = readFileSync(join(corpus, heldOutFile), 'utf8').split('\n', 1)
  const tokens = tokenizer.encode((JSON.parse(line!) as { text: string }).text)
  const count = steps * batchSize
  const needed = count * length + 1
  if (tokens.length < needed)
    throw new Error(`the first held-out text has ${tokens.length} tokens; ${needed} are needed`)
  const row = (i: number) => Int32Array.from(tokens.slice(i * length, (i + 1) * length + 1))
  return Array.from({ length: steps }, (_, batch) =>
    Array.from({ length: batchSize }, (_, i) => row(batch * batchSize + i)),
  )
}
