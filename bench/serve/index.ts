// The serve bench: many requests at once. It compares MoR with vanilla of the same shape in the same engine, and vanilla
// with node-llama-cpp on the same weights.
import { join } from 'node:path'
import { startNodeLlamaCpp } from '../baselines/rivals.js'
import { Contender } from '../lib/contender.js'
import { machine, threads } from '../lib/machine.js'
import { showProgress } from '../lib/progress.js'
import { Report } from '../lib/report.js'
import type { Rival } from '../lib/rival.js'
import { temporaryFolder } from '../lib/temporary_folder.js'
import { reportEqualBatch, reportEqualMemory, reportRivals, reportSweep } from './figures.js'
import type { Load } from './load.js'
import {
  bytesFor,
  type EqualMemory,
  type Extent,
  newEqualMemory,
  newRivals,
  newSweep,
  type RivalSeries,
  type Series,
} from './series.js'
import type { ServeAnswer } from './serve_requests.js'
import { type ModelName, modelNames, models } from './shapes.js'
import { contextSize, workload } from './workload.js'

const prompts = (count: number, seed: number) => workload(count, models.vanilla.vocab_size, seed)
const warmUpRequests = prompts(4, 0)
/** Tokens/s of vanilla's warm-up below which a round would take more than some 15 minutes. */
const slowRate = 150

type Ours = Record<ModelName, Contender>

export async function benchServe(rounds: number): Promise<Report> {
  const report = new Report('serve', machine())
  using folder = temporaryFolder('mor-bench-')
  const rivals = newRivals()
  const ours = await startOurs()
  const sequences = Math.max(...rivals.map(({ concurrency }) => concurrency))
  const rival = await startNodeLlamaCpp(ours.vanilla, folder.path, { sequences, contextSize })
  let extent: Extent = 'all'
  for (const name of modelNames) {
    const { tokens, seconds } = await warmUp(ours[name])
    if (name === 'vanilla' && tokens / seconds < slowRate) extent = 'few'
  }
  if (extent === 'few')
    report.remark(`Some rows are left out, since 4 sequences of vanilla have fewer than ${slowRate} tokens/s`)
  const [sweep, equalMemory] = [newSweep(extent), newEqualMemory(extent)]
  await rival.ask('serve', { requests: warmUpRequests, concurrency: warmUpRequests.length })
  for (let round = 0; round < rounds; round++) {
    for (const series of round % 2 === 0 ? sweep : sweep.toReversed()) {
      showProgress(`round ${round + 1} of ${rounds}: ${series.model}, batch ${series.maxBatchSize}`)
      await runSeries(series, ours)
    }
    showProgress(`round ${round + 1} of ${rounds}: equal memory, then node-llama-cpp`)
    for (const size of equalMemory) for (let pair = 0; pair < size.pairs; pair++) await runPair(size, ours)
    for (const [i, series] of rivals.entries())
      await runRival(series, ours.vanilla, rival, 1 + round * rivals.length + i)
  }
  await Promise.all([...Object.values(ours), rival].map((contender) => contender.end()))
  reportSweep(report, sweep)
  reportEqualBatch(report, sweep)
  reportEqualMemory(report, equalMemory)
  if (rival.lost === undefined) reportRivals(report, rivals)
  else report.remark(`node-llama-cpp has no rows: ${rival.lost}`)
  return report
}

/** Each model runs in a process of its own, so that none inherits heap, caches or compute threads from another. */
async function startOurs(): Promise<Ours> {
  const contenders = {} as Ours
  for (const name of modelNames) {
    contenders[name] = await Contender.startTypeScript(join(__dirname, 'worker.ts'))
    await contenders[name].ask('build', { config: models[name], threads })
  }
  return contenders
}

async function warmUp(ours: Contender): Promise<ServeAnswer> {
  const [maxBatchSize, kvCacheBytes] = [warmUpRequests.length, bytesFor(2 * warmUpRequests.length)]
  return await ours.ask<ServeAnswer>('serve', { requests: warmUpRequests, maxBatchSize, kvCacheBytes, temperature: 1 })
}

/** The n-th run has the same requests for every series. Each series has an engine of its own with an empty prefix cache. */
async function runSeries({ model, maxBatchSize, kvCacheBytes, requests, answers }: Series, ours: Ours): Promise<void> {
  const request = { requests: prompts(requests, 1 + answers.length), maxBatchSize, kvCacheBytes, temperature: 1 }
  answers.push(await ours[model].ask<ServeAnswer>('serve', request))
}

/** One run of each. They take turns in being first, so that a machine that becomes slower favours neither. */
async function runPair({ vanilla, mor4 }: EqualMemory, ours: Ours): Promise<void> {
  const order = vanilla.answers.length % 2 === 0 ? [vanilla, mor4] : [mor4, vanilla]
  for (const series of order) await runSeries(series, ours)
}

/** Both generate greedily. @param seed a new one each time, since the rival may answer a repeated prompt from its cache. */
async function runRival(series: RivalSeries, ours: Contender, rival: Rival, seed: number): Promise<void> {
  if (rival.lost !== undefined) return
  const { concurrency } = series
  const requests = prompts(series.requests, seed)
  const kvCacheBytes = bytesFor(2 * concurrency)
  const request = { requests, maxBatchSize: concurrency, kvCacheBytes, temperature: 0 }
  series.ours.push(await ours.ask<ServeAnswer>('serve', request))
  const theirs = await rival.ask<Load>('serve', { requests, concurrency })
  if (theirs !== undefined) series.theirs.push(theirs)
}
