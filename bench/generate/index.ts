// The generation bench: compares decoding with node-llama-cpp on the same weights and with the memory bandwidth, and MoR's
// time with its depth.
import { join } from 'node:path'
import { startNodeLlamaCpp } from '../baselines/rivals.js'
import { buildCeilings, measureReadBandwidth } from '../lib/ceilings.js'
import { Contender } from '../lib/contender.js'
import { heldToSet } from '../lib/instruction_set.js'
import { machine, threads } from '../lib/machine.js'
import { showProgress } from '../lib/progress.js'
import { randomTokens } from '../lib/random_tokens.js'
import { Report } from '../lib/report.js'
import type { Rival } from '../lib/rival.js'
import { median } from '../lib/statistics.js'
import { temporaryFolder } from '../lib/temporary_folder.js'
import type { Decoded } from './decode.js'
import { bytesPerToken, generatedTokens, mor, promptTokens, vanilla } from './shapes.js'

const many = 8
const contextSize = 256 // of one sequence: prompt and generated tokens fit
const prompts = Array.from({ length: many }, (_, i) => [...randomTokens(promptTokens, vanilla.vocab_size, i + 1)])

/** The depths of MoR's tokens: forced to each depth, and as the freshly initialised router chooses. */
const routings = {
  depth_1: { routerThreshold: 1 },
  depth_2: { routerThreshold: 0, maxRecursions: 2 },
  depth_3: { routerThreshold: 0 },
  routed: {},
}

const rivalNames = ['node_llama_cpp', 'node_llama_cpp_8']

interface Series {
  contender: Contender | Rival
  request: { prompts: number[][]; tokens: number; routing: object }
  tokensPerSecond: number[]
  eventLoopDelays: number[]
  meanDepth: number
  tokens: number[][]
}

export async function benchGenerate(rounds: number): Promise<Report> {
  const report = new Report('generate', machine())
  using folder = temporaryFolder('mor-bench-')
  buildCeilings()
  const { ours, oursMor, rival } = await startContenders(folder.path)
  const series = {
    vanilla: newSeries(ours, 1),
    node_llama_cpp: newSeries(rival, 1),
    vanilla_8: newSeries(ours, many),
    node_llama_cpp_8: newSeries(rival, many),
    ...Object.fromEntries(
      Object.entries(routings).map(([name, routing]) => [`mor_${name}`, newSeries(oursMor, 1, routing)]),
    ),
  } as Record<string, Series>
  showProgress('warm-up')
  for (const one of Object.values(series)) await runRound(one)
  for (const one of Object.values(series)) {
    one.tokensPerSecond.length = 0 // that was the warm-up
    one.eventLoopDelays.length = 0
  }
  const bandwidths: number[] = []
  for (let round = 0; round < rounds; round++) {
    showProgress(`round ${round + 1} of ${rounds}`)
    bandwidths.push(measureReadBandwidth()) // memory of a shared machine is not equally fast at all times
    for (const one of Object.values(series)) await runRound(one)
  }
  await Promise.all([ours.end(), oursMor.end(), rival.end()])
  if (rival.lost !== undefined) {
    report.remark(`node-llama-cpp has no rows: ${rival.lost}`)
    for (const name of rivalNames) delete series[name]
  }
  reportAll(report, series, bandwidths)
  return report
}

/** Each model runs in a process of its own, so that none inherits heap, caches or compute threads from another. */
async function startContenders(folder: string): Promise<{ ours: Contender; oursMor: Contender; rival: Rival }> {
  const [ours, oursMor] = (await Promise.all(
    [vanilla, mor].map(async (config) => {
      const contender = await Contender.startTypeScript(join(__dirname, 'worker.ts'))
      await contender.ask('build', { config, threads, sequences: many })
      return contender
    }),
  )) as [Contender, Contender]
  return { ours, oursMor, rival: await startNodeLlamaCpp(ours, folder, { sequences: many, contextSize }) }
}

function newSeries(contender: Contender | Rival, sequences: number, routing: object = {}): Series {
  const request = { prompts: prompts.slice(0, sequences), tokens: generatedTokens, routing }
  return { contender, request, tokensPerSecond: [], eventLoopDelays: [], meanDepth: 1, tokens: [] }
}

async function runRound(series: Series): Promise<void> {
  const answer = await series.contender.ask<Decoded & { meanDepth?: number }>('generate', series.request)
  if (answer === undefined) return
  series.tokensPerSecond.push(answer.counted / answer.seconds)
  series.eventLoopDelays.push(answer.eventLoopDelay)
  series.meanDepth = answer.meanDepth ?? 1
  series.tokens = answer.tokens
}

function reportAll(report: Report, series: Record<string, Series>, bandwidths: number[]): void {
  for (const [name, { tokensPerSecond, request, meanDepth }] of Object.entries(series)) {
    const what = request.prompts.length === 1 ? '1 sequence' : `${request.prompts.length} sequences, together`
    const limited = rivalNames.includes(name) ? heldToSet() : ''
    const depth = name.startsWith('mor_') ? `, mean depth ${meanDepth.toFixed(2)}` : ''
    report.figure(name, tokensPerSecond, 'tokens/s', `${what}, ${generatedTokens} greedy tokens${depth}${limited}`)
  }
  const ofContender = (theirs: boolean): number[] =>
    Object.entries(series)
      .filter(([name]) => rivalNames.includes(name) === theirs)
      .flatMap(([, { eventLoopDelays }]) => eventLoopDelays)
  report.figure('event_loop_delay_p99', ofContender(false), 'ms', 'while generating')
  report.figure('read_bandwidth', bandwidths, 'GB/s', '512 MiB, all threads; before each round')
  report.figure('vanilla_bytes_per_token', [bytesPerToken(vanilla, 1) / 1e6], 'MB', 'weights and keys/values, bf16')

  const rate = (name: string): number => median(series[name]!.tokensPerSecond)
  const read = series.vanilla!.tokensPerSecond.map(
    (r, round) => (r * bytesPerToken(vanilla, 1)) / 1e9 / bandwidths[round]!,
  )
  if (rivalNames.every((name) => series[name] !== undefined)) {
    report.figure('node_llama_cpp_event_loop_delay_p99', ofContender(true), 'ms', 'while generating')
    const equal = 'ours = node-llama-cpp from the start, one value a prompt'
    report.figure('greedy_tokens_equal', equalPrefixes(series), 'tokens', equal)
    report.ratio('vanilla_vs_node_llama_cpp', rate('vanilla') / rate('node_llama_cpp'), '1 sequence')
    report.ratio('vanilla_vs_node_llama_cpp_8', rate('vanilla_8') / rate('node_llama_cpp_8'), `${many} sequences`)
  }
  report.ratio('of_bandwidth', median(read), 'bytes read per second / read_bandwidth, round by round; 1 sequence')
  reportDepth(report, series)
}

/**
 * Time per token as a function of mean depth, relative to full depth: compared with the line through depth 1 and full
 * depth, and with the bytes that a token must read. The former ratio is 1 if time follows depth. The latter is above 1 if a
 * block's second pass costs less than its first, because its weights are still in a cache.
 */
function reportDepth(report: Report, series: Record<string, Series>): void {
  const [least, full] = [series.mor_depth_1!, series.mor_depth_3!]
  const timesOver = ({ tokensPerSecond }: Series): number[] =>
    tokensPerSecond.map((rate, round) => full.tokensPerSecond[round]! / rate)
  const ofLeast = median(timesOver(least))
  const onLine = (depth: number): number =>
    1 - ((1 - ofLeast) * (full.meanDepth - depth)) / (full.meanDepth - least.meanDepth)
  for (const name of ['depth_2', 'routed']) {
    const one = series[`mor_${name}`]!
    const value = median(timesOver(one)) / onLine(one.meanDepth)
    report.ratio(`time_over_depth_${name}`, value, 'time / the line from depth 1 to 3 at its mean depth')
  }
  for (const name of ['depth_1', 'depth_2', 'routed']) {
    const one = series[`mor_${name}`]!
    const bytes = bytesPerToken(mor, one.meanDepth) / bytesPerToken(mor, full.meanDepth)
    report.ratio(`time_over_bytes_${name}`, median(timesOver(one)) / bytes, 'time / bytes, both over full depth')
  }
}

function equalPrefixes(series: Record<string, Series>): number[] {
  const theirs = series.node_llama_cpp_8!.tokens
  return series.vanilla_8!.tokens.map((tokens, i) => {
    const different = tokens.findIndex((token, position) => token !== theirs[i]![position])
    return different === -1 ? tokens.length : different
  })
}
