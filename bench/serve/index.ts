// The serve bench: many requests at once, MoR against vanilla of the same shape in the same engine, and vanilla against
// node-llama-cpp on the same weights. Must not know how a contender generates.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeGguf } from '../baselines/gguf.js'
import { installNodeLlamaCpp } from '../baselines/rivals.js'
import { Contender } from '../lib/contender.js'
import { machine, threads } from '../lib/machine.js'
import { Report } from '../lib/report.js'
import { median } from '../lib/statistics.js'
import type { Load } from './load.js'
import {
  idealSpeedUp,
  type ModelName,
  meanDepth,
  modelNames,
  models,
  vanillaKvBytesPerToken,
  type Work,
  workOf,
} from './shapes.js'
import type { ServeAnswer } from './worker.js'
import { contextSize, requestCount, workload } from './workload.js'

/** Up to saturation: from 64 on, vanilla and MoR gain little. Every model runs at the last. */
const sweptBatches = [8, 32, 64, 128]
const sweptModels: readonly ModelName[] = ['vanilla', 'mor4']
const equalBatch = sweptBatches.at(-1)!
/** A small batch gets fewer requests: enough that the time when it runs empty does not count. */
const requestsPerPlace = 4

/**
 * The caches of the comparison at equal memory: so many vanilla sequences of mean length, prompt and generated tokens. The
 * less memory, the longer a pass waits for weights, and the more it pays that a token takes less room.
 */
const equalMemorySequences = [4, 8, 16]
const equalMemoryRequests = 128
const bytesFor = (sequences: number): number => sequences * (contextSize / 2) * vanillaKvBytesPerToken

/** Requests under way at once, and of how many: the rival has as many places. */
const rivalLoads = [
  { concurrency: 1, requests: 4 },
  { concurrency: 8, requests: 16 },
  { concurrency: 64, requests: 64 },
]

const warmUpRequests = workload(4, models.vanilla.vocab_size, 0)

/** One way to run one model; a value a round. */
interface Series {
  model: ModelName
  maxBatchSize: number
  kvCacheBytes: number
  requests: number
  answers: ServeAnswer[]
}

interface RivalSeries {
  concurrency: number
  requests: number
  ours: Load[]
  theirs: Load[]
}

export async function benchServe(rounds: number): Promise<Report> {
  const report = new Report('serve', machine())
  const folder = mkdtempSync(join(tmpdir(), 'mor-bench-'))
  try {
    installNodeLlamaCpp()
    const ours = await startOurs()
    const rival = await startRival(ours.vanilla, folder)
    const sweep = newSweep()
    const equalMemory = equalMemorySequences.flatMap((sequences) =>
      sweptModels.map((model): Series => {
        const [requests, kvCacheBytes] = [equalMemoryRequests, bytesFor(sequences)]
        return { model, maxBatchSize: requests, kvCacheBytes, requests, answers: [] }
      }),
    )
    const rivals = rivalLoads.map((load): RivalSeries => ({ ...load, ours: [], theirs: [] }))
    let seed = 0 // a prompt that came before might be served from the cache
    for (const name of modelNames) await warmUp(ours[name])
    await rival.ask('serve', { requests: warmUpRequests, concurrency: warmUpRequests.length })
    for (let round = 0; round < rounds; round++) {
      for (const series of [...sweep, ...equalMemory]) await runSeries(series, ours[series.model], ++seed)
      for (const series of rivals) await runRival(series, ours.vanilla, rival, ++seed)
    }
    await Promise.all([...Object.values(ours), rival].map((contender) => contender.end()))
    reportSweep(report, sweep)
    reportEqualBatch(report, sweep)
    reportEqualMemory(report, equalMemory)
    reportRival(report, rivals)
    return report
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** One process a model, so that none finds the heap, the caches or the compute threads as another left them. */
async function startOurs(): Promise<Record<ModelName, Contender>> {
  const contenders = {} as Record<ModelName, Contender>
  for (const name of modelNames) {
    contenders[name] = await Contender.startTypeScript(join(__dirname, 'worker.ts'))
    await contenders[name].ask('build', { config: models[name], threads, meanDepth: meanDepth(name) })
  }
  return contenders
}

async function startRival(vanilla: Contender, folder: string): Promise<Contender> {
  await vanilla.ask('save', { folder })
  const path = join(folder, 'vanilla.gguf')
  await writeGguf(folder, path)
  const rival = await Contender.startTypeScript(join(__dirname, '..', 'baselines', 'node_llama_cpp.ts'))
  const sequences = Math.max(...rivalLoads.map(({ concurrency }) => concurrency))
  await rival.ask('load', { path, threads, sequences, contextSize })
  return rival
}

function newSweep(): Series[] {
  return sweptBatches.flatMap((maxBatchSize) => {
    const names = maxBatchSize === equalBatch ? modelNames : sweptModels
    // A router makes the engine hold twice as many requests as run in one pass; memory shall not limit them.
    return names.map((model) => newSeries(model, maxBatchSize, 2 * maxBatchSize * contextSize * vanillaKvBytesPerToken))
  })
}

function newSeries(model: ModelName, maxBatchSize: number, kvCacheBytes: number): Series {
  const requests = Math.min(requestCount, requestsPerPlace * maxBatchSize)
  return { model, maxBatchSize, kvCacheBytes, requests, answers: [] }
}

function serve(
  ours: Contender,
  requests: number,
  seed: number,
  options: { maxBatchSize: number; kvCacheBytes: number; temperature: number },
): Promise<ServeAnswer> {
  return ours.ask('serve', { requests: workload(requests, models.vanilla.vocab_size, seed), ...options })
}

async function warmUp(ours: Contender): Promise<void> {
  const [maxBatchSize, kvCacheBytes] = [warmUpRequests.length, bytesFor(2 * warmUpRequests.length)]
  await ours.ask('serve', { requests: warmUpRequests, maxBatchSize, kvCacheBytes, temperature: 1 })
}

async function runSeries(series: Series, ours: Contender, seed: number): Promise<void> {
  const { maxBatchSize, kvCacheBytes, requests } = series
  series.answers.push(await serve(ours, requests, seed, { maxBatchSize, kvCacheBytes, temperature: 1 }))
}

/** Greedy, both. */
async function runRival(series: RivalSeries, ours: Contender, rival: Contender, seed: number): Promise<void> {
  const { concurrency, requests } = series
  const kvCacheBytes = concurrency * contextSize * vanillaKvBytesPerToken
  series.ours.push(await serve(ours, requests, seed, { maxBatchSize: concurrency, kvCacheBytes, temperature: 0 }))
  const load = { requests: workload(requests, models.vanilla.vocab_size, seed), concurrency }
  series.theirs.push(await rival.ask<Load>('serve', load))
}

const tokensPerSecond = (loads: readonly Load[]): number[] => loads.map(({ tokens, seconds }) => tokens / seconds)

function speedUp(of: Series, over: Series): number {
  const slow = tokensPerSecond(over.answers)
  return median(tokensPerSecond(of.answers).map((rate, round) => rate / slow[round]!))
}

function reportSweep(report: Report, sweep: readonly Series[]): void {
  for (const { model, maxBatchSize, requests, answers } of sweep)
    report.figure(
      `${model}_batch_${maxBatchSize}`,
      tokensPerSecond(answers),
      'tokens/s',
      `${requests} requests at once`,
    )
}

/** Every model at the batch that saturates. */
function reportEqualBatch(report: Report, sweep: readonly Series[]): void {
  const saturated = sweep.filter(({ maxBatchSize }) => maxBatchSize === equalBatch)
  const vanilla = saturated.find(({ model }) => model === 'vanilla')!
  for (const { model, answers } of saturated) {
    const of = (value: (answer: ServeAnswer) => number): number[] => answers.map(value)
    const figure = (name: string, value: (answer: ServeAnswer) => number, unit: string, note = ''): void => {
      report.figure(`${model}_${name}`, of(value), unit, note)
    }
    figure('time_to_first_token', (a) => a.timeToFirstToken.median, 'ms', 'from the start of all requests: most wait')
    figure('inter_token_latency', (a) => a.interTokenLatency.median, 'ms')
    figure('inter_token_latency_p99', (a) => a.interTokenLatency.p99, 'ms')
    figure('layer_passes', (a) => passesPerToken(workOf(model, a.stats)), 'a token', 'prompts included')
    figure('kv_bytes', (a) => a.kvBytes / 1e6, 'MB', 'at most; a router keeps twice as many requests running')
    figure('kv_of_vanilla', (a) => a.kvBytes / a.kvBytesVanilla, '', 'what the same tokens take without recursions')
  }
  const delays = saturated.flatMap(({ answers }) => answers.map(({ eventLoopDelay }) => eventLoopDelay))
  report.figure('event_loop_delay_p99', delays, 'ms', `${requestCount} streams`)
  for (const series of saturated) {
    if (series === vanilla) continue
    const works = series.answers.map(({ stats }) => workOf(series.model, stats))
    const ideal = median(works.map(idealSpeedUp))
    const passes = median(works.map(({ layerPasses, vanillaLayerPasses }) => vanillaLayerPasses / layerPasses))
    const found = speedUp(series, vanilla)
    const { model } = series
    report.ratio(`${model}_vs_vanilla_equal_batch`, found, `tokens/s, batch ${equalBatch}`)
    report.ratio(`${model}_layer_pass_saving`, passes, 'layer passes: vanilla / executed')
    report.ratio(`${model}_ideal`, ideal, 'likewise with the head: the speed-up if time followed the passes')
    report.ratio(`${model}_of_ideal`, found / ideal, 'speed-up found / ideal')
    if (model === 'mor4') report.ratio('of_ideal', found / ideal, 'the same, of mor4')
  }
}

function passesPerToken({ tokens, layerPasses }: Work): number {
  return layerPasses / tokens
}

function reportEqualMemory(report: Report, equalMemory: readonly Series[]): void {
  for (const sequences of equalMemorySequences) {
    const bytes = bytesFor(sequences)
    const of = (model: ModelName): Series =>
      equalMemory.find((series) => series.model === model && series.kvCacheBytes === bytes)!
    const note = `a KV cache of ${(bytes / 1e6).toFixed(0)} MB: ${sequences} vanilla sequences of mean length`
    for (const model of sweptModels)
      report.figure(`${model}_equal_kv_${sequences}`, tokensPerSecond(of(model).answers), 'tokens/s', note)
    const found = speedUp(of('mor4'), of('vanilla'))
    report.ratio(`mor4_vs_vanilla_kv_${sequences}`, found, `tokens/s at equal KV memory, ${note}`)
    if (sequences === equalMemorySequences[0]) report.ratio('mor4_vs_vanilla', found, 'the same, at the least memory')
  }
}

function reportRival(report: Report, rivals: readonly RivalSeries[]): void {
  for (const { concurrency, requests, ours, theirs } of rivals) {
    const note = `${requests} requests, ${concurrency} at a time, greedy`
    const [rates, rivalRates] = [tokensPerSecond(ours), tokensPerSecond(theirs)]
    report.figure(`vanilla_${concurrency}`, rates, 'tokens/s', note)
    report.figure(`node_llama_cpp_${concurrency}`, rivalRates, 'tokens/s', note)
    const ratios = rates.map((rate, round) => rate / rivalRates[round]!)
    report.ratio(`vanilla_vs_node_llama_cpp_${concurrency}`, median(ratios), 'tokens/s, prompts included')
  }
  const delays = rivals.flatMap(({ theirs }) => theirs.map(({ eventLoopDelay }) => eventLoopDelay))
  report.figure('node_llama_cpp_event_loop_delay_p99', delays, 'ms')
}
