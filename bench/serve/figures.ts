// The serve bench's figures, ratios and remarks, from its measured series.
import { resolveConfig } from '../../lib/config.js'
import { heldToSet } from '../lib/instruction_set.js'
import type { Report } from '../lib/report.js'
import { median } from '../lib/statistics.js'
import { type EqualMemory, equalBatch, type RivalSeries, type Series, speedUps, tokensPerSecond } from './series.js'
import type { ServeAnswer } from './serve_requests.js'
import { idealSpeedUp, type ModelName, meanDepth, models, workOf } from './shapes.js'
import { requestCount } from './workload.js'

export function reportSweep(report: Report, sweep: readonly Series[]): void {
  for (const { model, maxBatchSize, requests, answers } of sweep)
    report.figure(
      `${model}_batch_${maxBatchSize}`,
      tokensPerSecond(answers),
      'tokens/s',
      `${requests} requests at once`,
    )
}

/** Every model at the largest batch, which saturates it. */
export function reportEqualBatch(report: Report, sweep: readonly Series[]): void {
  const saturated = sweep.filter(({ maxBatchSize }) => maxBatchSize === equalBatch)
  const vanilla = saturated.find(({ model }) => model === 'vanilla')!
  for (const { model, answers } of saturated) {
    const figure = (name: string, value: (answer: ServeAnswer) => number, unit: string, note = ''): void => {
      report.figure(`${model}_${name}`, answers.map(value), unit, note)
    }
    reportMeanDepth(report, model, answers)
    figure('time_to_first_token', (a) => a.timeToFirstToken.median, 'ms', 'from the start of all requests: most wait')
    figure('inter_token_latency', (a) => a.interTokenLatency.median, 'ms')
    figure('inter_token_latency_p99', (a) => a.interTokenLatency.p99, 'ms')
    figure('layer_passes', (a) => passesPerToken(model, a), 'a token', 'prompts included')
    figure('kv_bytes', (a) => a.kvBytes / 1e6, 'MB', 'at most; a router keeps twice as many requests running')
    figure('kv_of_vanilla', (a) => a.kvBytes / a.kvBytesVanilla, '', 'what the same tokens take without recursions')
  }
  const delays = saturated.flatMap(({ answers }) => answers.map(({ eventLoopDelay }) => eventLoopDelay))
  report.figure('event_loop_delay_p99', delays, 'ms', `${requestCount} streams`)
  for (const series of saturated) if (series !== vanilla) reportSaving(report, series, vanilla)
}

function reportMeanDepth(report: Report, model: ModelName, answers: readonly ServeAnswer[], where = ''): void {
  const { num_recursions: recursions, router } = resolveConfig(models[model])
  if (router === null) return
  const depths = answers.map(({ stats }) => meanDepth(stats))
  const note = `recursions run, prompts included; the routers are set to ${(recursions + 1) / 2} over all ids`
  report.figure(`${model}_mean_depth${where}`, depths, 'a token', note)
}

function passesPerToken(model: ModelName, { stats }: ServeAnswer): number {
  const { tokens, layerPasses } = workOf(model, stats)
  return layerPasses / tokens
}

function reportSaving(report: Report, { model, answers }: Series, vanilla: Series): void {
  const works = answers.map(({ stats }) => workOf(model, stats))
  const ideal = median(works.map(idealSpeedUp))
  const passes = median(works.map(({ layerPasses, vanillaLayerPasses }) => vanillaLayerPasses / layerPasses))
  const found = median(speedUps(answers, vanilla.answers))
  report.ratio(`${model}_vs_vanilla_equal_batch`, found, `tokens/s, batch ${equalBatch}`)
  report.ratio(`${model}_layer_pass_saving`, passes, 'layer passes: vanilla / executed')
  report.ratio(`${model}_ideal`, ideal, 'likewise with the head: the speed-up if time followed the passes')
  report.ratio(`${model}_of_ideal`, found / ideal, 'speed-up found / ideal')
  if (model === 'mor4') report.ratio('of_ideal', found / ideal, 'the same, of mor4')
}

export function reportEqualMemory(report: Report, equalMemory: readonly EqualMemory[]): void {
  for (const [i, { sequences, kvCacheBytes, vanilla, mor4 }] of equalMemory.entries()) {
    const memory = `a KV cache of ${(kvCacheBytes / 1e6).toFixed(0)} MB`
    const note = `${memory}: ${sequences} vanilla sequences of mean length; ${vanilla.requests} requests at once`
    for (const { model, answers } of [vanilla, mor4]) {
      const running = answers.map((answer) => answer.running)
      report.figure(`${model}_equal_kv_${sequences}`, tokensPerSecond(answers), 'tokens/s', note)
      report.figure(`${model}_running_kv_${sequences}`, running, 'requests', 'with a place and memory, mean over time')
      reportMeanDepth(report, model, answers, `_kv_${sequences}`)
    }
    const found = speedUps(mor4.answers, vanilla.answers)
    const speedUp = report.figure(`mor4_speed_up_kv_${sequences}`, found, '', `mor4 / vanilla, run by run, ${memory}`)
    report.ratio(`mor4_vs_vanilla_kv_${sequences}`, speedUp.median, `tokens/s at equal KV memory, ${memory}`)
    if (i === 0) report.ratio('mor4_vs_vanilla', speedUp.median, 'the same, at the least memory')
  }
}

export function reportRivals(report: Report, rivals: readonly RivalSeries[]): void {
  for (const { concurrency, requests, ours, theirs } of rivals) {
    const note = `${requests} requests, ${concurrency} at a time, greedy`
    report.figure(`vanilla_${concurrency}`, tokensPerSecond(ours), 'tokens/s', note)
    report.figure(`node_llama_cpp_${concurrency}`, tokensPerSecond(theirs), 'tokens/s', note + heldToSet())
    const ratio = median(speedUps(ours, theirs))
    report.ratio(`vanilla_vs_node_llama_cpp_${concurrency}`, ratio, 'tokens/s, prompts included')
  }
  const delays = rivals.flatMap(({ theirs }) => theirs.map(({ eventLoopDelay }) => eventLoopDelay))
  report.figure('node_llama_cpp_event_loop_delay_p99', delays, 'ms')
}
