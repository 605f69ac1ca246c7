// Tokens that the models of a study serve in a second: all in one process, by turns, so that they can be compared.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Engine, Model } from '../../lib/index.js'
import { meanDepth, tokensByDepth } from '../../lib/report/series.js'
import { machine } from '../lib/machine.js'
import { table } from '../lib/report.js'
import { type Summary, summarize } from '../lib/statistics.js'
import { heldOutFile } from './corpus.js'
import { addReportResults } from './report_results.js'
import { checkpointOf, folderOf, type Places, runsWithModels } from './run.js'
import { idOf, type StudyRun } from './study.js'

const requests = 64
/** About 64 tokens. */
const promptCharacters = 256
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
  promptCharacters: number
  generatedTokens: number
  models: Record<string, Served>
}

export const servingFile = 'serving.json'

/** A model as it is served. */
export interface ServedModel {
  model: Model
  routing: { routerThreshold?: number; maxRecursions?: number }
}

/** Measures the models of those runs that have one, and writes them all to the results. */
export async function serveRuns(runs: readonly StudyRun[], places: Places, corpus: string): Promise<void> {
  const present = runsWithModels(runs, places)
  const models = await Promise.all(present.map((run) => Model.load(checkpointOf(run, places))))
  const served = await serveByTurns(
    models.map((model) => ({ model, routing: {} })),
    corpus,
  )
  for (const model of models) await model.dispose()
  for (const [i, run] of present.entries())
    addReportResults(folderOf(run, places), { servedTokensPerSecond: served[i]!.tokensPerSecond.median })
  const byId = Object.fromEntries(present.map((run, i) => [idOf(run), served[i]!]))
  const result: Serving = { machine: machine(), requests, promptCharacters, generatedTokens, models: byId }
  mkdirSync(places.results, { recursive: true })
  writeFileSync(join(places.results, servingFile), `${JSON.stringify(result, null, 1)}\n`)
  const rows = Object.entries(byId).map(([id, { tokensPerSecond, meanDepth: depth }]) => [
    id,
    ...[tokensPerSecond.median, tokensPerSecond.min, tokensPerSecond.max].map((rate) => rate.toFixed(0)),
    depth.toFixed(3),
  ])
  console.log(table(['model', 'tokens/s', 'min', 'max', 'mean depth'], rows).join('\n'))
}

/** All of them serve the same requests in each round. @param corpus the folder of the held-out texts */
export async function serveByTurns(served: readonly ServedModel[], corpus: string): Promise<Served[]> {
  const prompts = readPrompts(corpus)
  const series = served.map(({ model, routing }) => ({
    engine: new Engine(model, { maxBatchSize: requests, prefixCache: false }),
    routing,
    rates: [] as number[],
  }))
  for (let round = 0; round <= rounds; round++) {
    for (const { engine, routing, rates } of series) {
      const rate = await serve(engine, routing, prompts.slice(round * requests, (round + 1) * requests))
      if (round > 0) rates.push(rate) // the first one warms up
    }
  }
  const results = series.map(({ engine, rates }) => ({
    tokensPerSecond: summarize(rates),
    meanDepth: meanDepth(tokensByDepth(engine.stats().depthHistogram)),
  }))
  for (const { engine } of series) await engine.close()
  return results
}

/** Passages of the held-out texts, evenly spread, enough for all rounds. */
function readPrompts(corpus: string): string[] {
  const lines = readFileSync(join(corpus, heldOutFile), 'utf8').trim().split('\n')
  const text = lines.map((line) => (JSON.parse(line) as { text: string }).text).join('\n')
  const count = requests * (rounds + 1)
  const distance = Math.floor((text.length - promptCharacters) / count)
  return Array.from({ length: count }, (_, i) => text.slice(i * distance, i * distance + promptCharacters))
}

async function serve(engine: Engine, routing: ServedModel['routing'], prompts: readonly string[]): Promise<number> {
  const begin = performance.now()
  const generations = prompts.map((prompt, seed) =>
    engine.generate(prompt, { ...routing, maxTokens: generatedTokens, ignoreEos: true, temperature: 1, seed }),
  )
  const results = await Promise.all(generations.map(({ result }) => result))
  const failed = results.find(({ finishReason }) => finishReason !== 'length')
  if (failed !== undefined) throw failed.error ?? new Error(`a generation ended by ${failed.finishReason}`)
  return (1000 * generatedTokens * requests) / (performance.now() - begin)
}
