// The training bench: compares our step with PyTorch's and with the ceilings of the machine, and MoR with vanilla.
import { buildCeilings, buildOneDnn, type Matmuls, measureFmaPeak, measureMatmul, vectorBits } from '../lib/ceilings.js'
import type { Contender } from '../lib/contender.js'
import { forcedInstructionSet, heldToSet } from '../lib/instruction_set.js'
import { machine } from '../lib/machine.js'
import { Report } from '../lib/report.js'
import { median } from '../lib/statistics.js'
import {
  blasAdvice,
  blasOf,
  buildPytorch,
  type Libraries,
  type MemoryAnswer,
  type OurStepAnswer,
  type Precision,
  precisions,
  type StepAnswer,
  startOurs,
  startPytorch,
} from './contenders.js'
import {
  type Choice,
  chooseBatches,
  choosePrecision,
  contenderNames,
  fastest,
  messageOf,
  type Rounds,
  runRounds,
} from './rounds.js'
import { length, type ModelName, modelNames, parameters, trainingFlops } from './shapes.js'

export async function benchTrain(rounds: number): Promise<Report> {
  const report = new Report('train', machine())
  buildCeilings()
  const hasOneDnn = buildOneDnn(report)
  const measure = () => ({ fma: measureFmaPeak(), matmuls: hasOneDnn ? measureMatmul() : undefined })
  const before = measure()
  const ours = await startOurs(modelNames)
  const rival = await preparePytorch(report)
  const batches = await chooseBatches(rival?.choice.pytorch ?? ours)
  const found = await runRounds({ ours, pytorch: rival?.choice.pytorch }, batches, rounds)
  if (found.lost !== undefined) report.remark(`PyTorch has no rows: ${found.lost}`)
  await Promise.all([ours.end(), rival?.choice.pytorch.end()])
  const after = measure()

  const fma = [before.fma, after.fma]
  report.figure('fma_peak', fma, 'GFLOP/s', `float32 multiply-adds of ${vectorBits()} bits in registers; before, after`)
  reportThroughput(report, found, rival?.description ?? '')
  const flops = (median(fastest(found.series, 'ours', 'mor').tokensPerSecond) * trainingFlops('mor')) / 1e9
  report.ratio('of_fma_peak', flops / Math.max(...fma), 'executed FLOP/s of MoR / fma_peak, which is of float32')
  if (before.matmuls !== undefined && after.matmuls !== undefined)
    reportMatmuls(report, [before.matmuls, after.matmuls], flops)
  await reportMemory(report, found, found.lost === undefined ? rival?.choice.best : undefined)
  return report
}

/** PyTorch in its best precision, and its description; undefined where it is missing, which the report then says. */
async function preparePytorch(report: Report): Promise<{ choice: Choice; description: string } | undefined> {
  try {
    const first = await startPytorch()
    const { files, capability } = await first.ask<Libraries>('libraries')
    await first.end()
    const blas = blasOf(files)
    const description = `${first.description}, BLAS: ${blas}, ${capability}${heldToSet()}`
    const advice = blasAdvice(blas, forcedInstructionSet())
    if (advice !== undefined) report.remark(`PyTorch's float32 has no rows: ${advice}`)
    const candidates = precisions.filter((precision) => precision !== 'float32' || advice === undefined)
    const choice = await choosePrecision(startPytorch, candidates)
    for (const [precision, why] of choice.dropped) report.remark(`PyTorch's ${precision} has no rows: ${why}`)
    for (const [precision, { batch, tokensPerSecond }] of choice.rates) {
      const note = `batch ${batch}; ${precision === choice.best ? 'chosen' : 'not chosen'}`
      report.figure(`pytorch_mor_${precision}`, tokensPerSecond, 'tokens/s', note)
    }
    return { choice, description }
  } catch (error) {
    const install = 'apt-get install python3-torch libopenblas0-pthread'
    report.remark(`PyTorch has no rows: ${messageOf(error)}. If it is not installed: ${install}`)
    return undefined
  }
}

/** oneDNN's products before and after, and what share of them `flops`, our GFLOP/s, are. */
function reportMatmuls(report: Report, measured: readonly Matmuls[], flops: number): void {
  const { size, implementation, onednn, precision } = measured[0]!.peak
  const note = `oneDNN ${onednn} ${implementation}${heldToSet()}, ${size}³, ${precision}, normal inputs; before and after`
  const peaks = measured.map(({ peak }) => peak.median)
  report.figure('matmul_peak', peaks, 'GFLOP/s', note)
  const bySize = new Map<number, number>()
  for (const size of new Set(measured[0]!.sizes.map((one) => one.size))) {
    const medians = measured.map(({ sizes }) =>
      Math.max(...sizes.filter((one) => one.size === size).map((one) => one.median)),
    )
    report.figure(`matmul_${size}`, medians, 'GFLOP/s', precision)
    bySize.set(size, Math.max(...medians))
  }
  const largest = Math.max(...bySize.keys())
  const executed = 'executed FLOP/s of MoR'
  report.ratio('of_matmul_peak', flops / Math.max(...peaks), `${executed} / matmul_peak, ${precision}, of any size`)
  report.ratio(
    'of_largest_matmul',
    flops / bySize.get(largest)!,
    `${executed} / matmul_${largest}, ${precision}, the largest product`,
  )
}

function reportThroughput(report: Report, found: Rounds, rival: string): void {
  const { series, eventLoopDelays, flopsPerToken } = found
  for (const { contender, model, batch, tokensPerSecond } of series) {
    const note = contender === 'pytorch' ? rival : ''
    report.figure(`${contender}_${model}_batch_${batch}`, tokensPerSecond, 'tokens/s', note)
  }
  const present = contenderNames.filter((name) => series.some(({ contender }) => contender === name))
  for (const model of modelNames) {
    for (const contender of present) {
      const { tokensPerSecond, batch } = fastest(series, contender, model)
      report.figure(`${contender}_${model}`, tokensPerSecond, 'tokens/s', `T ${length}, its best batch: ${batch}`)
    }
    report.figure(`${model}_parameters`, [parameters(model)], 'parameters')
    const note = 'executed, forward and backward, head included'
    report.figure(`${model}_flops_per_token`, [trainingFlops(model) / 1e6], 'MFLOP', note)
    report.figure(`${model}_flops_by_trainer`, [flopsPerToken[model] / 1e6], 'MFLOP', "the trainer's own count")
  }
  report.figure('event_loop_delay_p99', eventLoopDelays, 'ms', 'while training')
  if (present.includes('pytorch')) reportRival(report, found)

  const mor = fastest(series, 'ours', 'mor')
  const vanilla = oursAt(found, 'vanilla', mor.batch)
  const speedUps = mor.tokensPerSecond.map((rate, round) => rate / vanilla[round]!)
  const flopsRatio = trainingFlops('vanilla') / trainingFlops('mor')
  report.ratio(
    'time_over_flops',
    median(speedUps) / flopsRatio,
    `vanilla / MoR in step time, over ${flopsRatio.toFixed(3)} in FLOPs; batch ${mor.batch}`,
  )
}

function reportRival(report: Report, found: Rounds): void {
  const best = (contender: 'ours' | 'pytorch', model: ModelName): number =>
    median(fastest(found.series, contender, model).tokensPerSecond)
  const { batch } = fastest(found.series, 'pytorch', 'mor')
  const rivalMor = best('pytorch', 'mor')
  const equal = median(oursAt(found, 'mor', batch)) / rivalMor
  report.ratio('mor_vs_pytorch', best('ours', 'mor') / rivalMor, 'tokens/s, each at its best batch')
  report.ratio('mor_vs_pytorch_equal_batch', equal, `tokens/s, batch ${batch}`)
  const vanilla = best('ours', 'vanilla') / best('pytorch', 'vanilla')
  report.ratio('vanilla_vs_pytorch', vanilla, 'tokens/s, each at its best batch')
}

function oursAt({ series }: Rounds, model: ModelName, batch: number): number[] {
  return series.find((one) => one.contender === 'ours' && one.model === model && one.batch === batch)!.tokensPerSecond
}

/**
 * Peak memory of a process that does nothing but train the MoR model at our best batch. @param precision of PyTorch;
 * undefined where it has no rows.
 */
async function reportMemory(report: Report, found: Rounds, precision: Precision | undefined): Promise<void> {
  const { batch } = fastest(found.series, 'ours', 'mor')
  const peak = async <Answer extends StepAnswer>(contender: Contender): Promise<{ step: Answer; bytes: number }> => {
    const step = await contender.ask<Answer>('step', { name: 'mor', batch, length, steps: 3, limit: 30, seed: 1 })
    const { peakBytes, startBytes } = await contender.ask<MemoryAnswer>('memory')
    await contender.end()
    return { step, bytes: peakBytes - startBytes }
  }
  const figure = (name: string, bytes: number, note: string) => report.figure(name, [bytes / 2 ** 20], 'MiB', note)
  if (precision !== undefined) {
    try {
      const rival = await startPytorch()
      await buildPytorch(rival, 'mor', 'mor', precision)
      const theirs = await peak(rival)
      figure('pytorch_memory_peak', theirs.bytes, `MoR, batch ${batch}, above the start of the process`)
    } catch (error) {
      report.remark(`PyTorch's memory has no row: ${messageOf(error)}`)
    }
  }
  const ours = await peak<OurStepAnswer>(await startOurs(['mor']))
  const count = parameters('mor')
  figure('memory_peak', ours.bytes, `ours, MoR, batch ${batch}, above the start; the next four are its parts`)
  figure('memory_parameters', 2 * count, 'bfloat16 weights')
  figure('memory_gradients', 4 * count, 'float32')
  figure('memory_optimizer', 12 * count, 'float32 master weights and two moments')
  figure('memory_activations', ours.bytes - 18 * count, 'the rest: activations, workspace, code')
  figure('memory_by_trainer', ours.step.memoryBytes, "the trainer's own count")
}
