// Tokens that the models of a study serve in a second: all in one process, by turns, so that they can be compared.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Engine, Model } from '../../lib/index.js'
import { machine } from '../lib/machine.js'
import { randomTokens } from '../lib/random_tokens.js'
import { type Summary, summarize } from '../lib/statistics.js'
import { meanDepth } from './metrics.js'
import { checkpointOf, type Places } from './run.js'
import { idOf, type StudyRun } from './study.js'

const requests = 64
const promptTokens = 64
const generatedTokens = 192
const rounds = 5

export interface Served {
  /** Generated tokens a second, all requests at once. */
  tokensPerSecond: Summary
  /** Recursions of a token. */
  meanDepth: number
}

/** The content of serving.json: the rates of one machine, measured together. */
export interface Serving {
  machine: string
  requests: number
  promptTokens: number
  generatedTokens: number
  models: Record<string, Served>
}

export const servingFile = 'serving.json'

/** Measures the models of those runs that have one, and writes them all to the results. */
export async function serveRuns(runs: readonly StudyRun[], places: Places): Promise<void> {
  const present = runs.filter((run) => existsSync(checkpointOf(run, places)))
  if (present.length === 0) throw new Error(`no run has a model in ${places.work} yet`)
  const series = []
  for (const run of present) {
    const model = await Model.load(checkpointOf(run, places))
    const engine = new Engine(model, { maxBatchSize: requests, prefixCache: false })
    series.push({ id: idOf(run), engine, vocabulary: model.config.vocab_size, rates: [] as number[] })
  }
  for (let round = 0; round <= rounds; round++) {
    for (const { engine, vocabulary, rates } of series) {
      const rate = await serve(engine, vocabulary, round)
      if (round > 0) rates.push(rate) // the first one warms up
    }
  }
  const models: Record<string, Served> = {}
  for (const { id, engine, rates } of series) {
    models[id] = { tokensPerSecond: summarize(rates), meanDepth: meanDepth([engine.stats().depthHistogram]) }
    await engine.close()
  }
  const result: Serving = { machine: machine(), requests, promptTokens, generatedTokens, models }
  mkdirSync(places.results, { recursive: true })
  writeFileSync(join(places.results, servingFile), `${JSON.stringify(result, null, 1)}\n`)
  console.table(
    Object.fromEntries(
      Object.entries(models).map(
        ([
          id,
          {
            tokensPerSecond: { median, min, max },
            meanDepth: depth,
          },
        ]) => [
          id,
          { median: Math.round(median), min: Math.round(min), max: Math.round(max), 'mean depth': depth.toFixed(3) },
        ],
      ),
    ),
  )
}

async function serve(engine: Engine, vocabulary: number, round: number): Promise<number> {
  const begin = performance.now()
  const generations = Array.from({ length: requests }, (_, i) =>
    engine.generate([...randomTokens(promptTokens, vocabulary, 1000 * round + i)], {
      maxTokens: generatedTokens,
      ignoreEos: true,
      temperature: 1,
      seed: i,
    }),
  )
  const results = await Promise.all(generations.map(({ result }) => result))
  const tokens = results.reduce((sum, { tokens }) => sum + tokens.length, 0)
  return (1000 * tokens) / (performance.now() - begin)
}
