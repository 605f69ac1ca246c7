// The training bench: compares our step with PyTorch's and with the largest matrix product, and MoR with vanilla.
import { buildCeilings, measureMatmul } from '../lib/ceilings.js'
import type { Contender } from '../lib/contender.js'
import { machine } from '../lib/machine.js'
import { Report } from '../lib/report.js'
import { median } from '../lib/statistics.js'
import {
  buildPytorch,
  type MemoryAnswer,
  type OurStepAnswer,
  type Precision,
  type StepAnswer,
  startOurs,
  startPytorch,
} from './contenders.js'
import { chooseBatches, choosePrecision, contenderNames, fastest, type Rounds, runRounds } from './rounds.js'
import { length, modelNames, parameters, trainingFlops } from './shapes.js'

export async function benchTrain(rounds: number): Promise<Report> {
  const report = new Report('train', machine())
  buildCeilings()
  const before = measureMatmul()
  const pytorch = await startPytorch()
  const ours = await startOurs(modelNames)
  const { best: precision, rates } = await choosePrecision(pytorch)
  const batches = await chooseBatches(pytorch)
  const found = await runRounds({ ours, pytorch }, batches, rounds)
  await Promise.all([ours.end(), pytorch.end()])
  const after = measureMatmul()

  for (const [name, { batch, tokensPerSecond }] of rates) {
    const note = `batch ${batch}; ${name === precision ? 'chosen' : 'not chosen'}`
    report.figure(`pytorch_mor_${name}`, tokensPerSecond, 'tokens/s', note)
  }
  const peaks = [before.peak.median, after.peak.median]
  const { size, implementation, onednn } = before.peak
  report.figure(
    'matmul_peak',
    peaks,
    'GFLOP/s',
    `oneDNN ${onednn} ${implementation}, ${size}³, bf16, normal inputs; before and after`,
  )
  const bySize = new Map<number, number>()
  for (const size of new Set(before.sizes.map((one) => one.size))) {
    const medians = [before, after].map(({ sizes }) =>
      Math.max(...sizes.filter((one) => one.size === size).map((one) => one.median)),
    )
    report.figure(`matmul_${size}`, medians, 'GFLOP/s')
    bySize.set(size, Math.max(...medians))
  }
  const largestSize = Math.max(...bySize.keys())
  const ceilings = { peak: Math.max(...peaks), largestSize, largest: bySize.get(largestSize)! }
  reportThroughput(report, found, ceilings, pytorch.description)
  await reportMemory(report, found, precision)
  return report
}

/** GFLOP/s of oneDNN: of its fastest product of any size, and of its largest product. */
interface Ceilings {
  peak: number
  largest: number
  largestSize: number
}

function reportThroughput(report: Report, found: Rounds, ceilings: Ceilings, rival: string): void {
  const { series, eventLoopDelays, flopsPerToken } = found
  for (const { contender, model, batch, tokensPerSecond } of series) {
    report.figure(
      `${contender}_${model}_batch_${batch}`,
      tokensPerSecond,
      'tokens/s',
      contender === 'pytorch' ? rival : '',
    )
  }
  for (const model of modelNames) {
    for (const contender of contenderNames) {
      const best = fastest(series, contender, model)
      report.figure(
        `${contender}_${model}`,
        best.tokensPerSecond,
        'tokens/s',
        `T ${length}, its best batch: ${best.batch}`,
      )
    }
    report.figure(`${model}_parameters`, [parameters(model)], 'parameters')
    const note = 'executed, forward and backward, head included'
    report.figure(`${model}_flops_per_token`, [trainingFlops(model) / 1e6], 'MFLOP', note)
    report.figure(`${model}_flops_by_trainer`, [flopsPerToken[model] / 1e6], 'MFLOP', "the trainer's own count")
  }
  report.figure('event_loop_delay_p99', eventLoopDelays, 'ms', 'while training')

  const mor = fastest(series, 'ours', 'mor')
  const rivalMor = fastest(series, 'pytorch', 'mor')
  const at = (contender: 'ours' | 'pytorch', model: 'vanilla' | 'mor', batch: number): number[] =>
    series.find((one) => one.contender === contender && one.model === model && one.batch === batch)!.tokensPerSecond
  const vanillaRatio =
    median(fastest(series, 'ours', 'vanilla').tokensPerSecond) /
    median(fastest(series, 'pytorch', 'vanilla').tokensPerSecond)
  const ours = median(mor.tokensPerSecond)
  report.ratio('mor_vs_pytorch', ours / median(rivalMor.tokensPerSecond), 'tokens/s, each at its best batch')
  report.ratio(
    'mor_vs_pytorch_equal_batch',
    median(at('ours', 'mor', rivalMor.batch)) / median(rivalMor.tokensPerSecond),
    `tokens/s, batch ${rivalMor.batch}`,
  )
  report.ratio('vanilla_vs_pytorch', vanillaRatio, 'tokens/s, each at its best batch')
  const flops = (ours * trainingFlops('mor')) / 1e9
  report.ratio('of_matmul_peak', flops / ceilings.peak, 'executed FLOP/s of MoR / matmul_peak, the fastest of any size')
  report.ratio(
    'of_largest_matmul',
    flops / ceilings.largest,
    `executed FLOP/s of MoR / matmul_${ceilings.largestSize}, the largest product`,
  )
  const vanilla = at('ours', 'vanilla', mor.batch)
  const speedUps = mor.tokensPerSecond.map((rate, round) => rate / vanilla[round]!)
  const flopsRatio = trainingFlops('vanilla') / trainingFlops('mor')
  report.ratio(
    'time_over_flops',
    median(speedUps) / flopsRatio,
    `vanilla / MoR in step time, over ${flopsRatio.toFixed(3)} in FLOPs; batch ${mor.batch}`,
  )
}

/** Peak memory of a process that does nothing but train the MoR model at our best batch. */
async function reportMemory(report: Report, found: Rounds, precision: Precision): Promise<void> {
  const { batch } = fastest(found.series, 'ours', 'mor')
  const peak = async <Answer extends StepAnswer>(contender: Contender): Promise<{ step: Answer; bytes: number }> => {
    const step = await contender.ask<Answer>('step', { name: 'mor', batch, length, steps: 3, seed: 1 })
    const { peakBytes, startBytes } = await contender.ask<MemoryAnswer>('memory')
    await contender.end()
    return { step, bytes: peakBytes - startBytes }
  }
  const ours = await peak<OurStepAnswer>(await startOurs(['mor']))
  const rival = await startPytorch()
  await buildPytorch(rival, 'mor', 'mor', precision)
  const theirs = await peak(rival)

  const figure = (name: string, bytes: number, note: string) => report.figure(name, [bytes / 2 ** 20], 'MiB', note)
  const count = parameters('mor')
  figure('pytorch_memory_peak', theirs.bytes, `MoR, batch ${batch}, above the start of the process`)
  figure('memory_peak', ours.bytes, 'ours, likewise; the next four are its parts')
  figure('memory_parameters', 2 * count, 'bfloat16 weights')
  figure('memory_gradients', 4 * count, 'float32')
  figure('memory_optimizer', 12 * count, 'float32 master weights and two moments')
  figure('memory_activations', ours.bytes - 18 * count, 'the rest: activations, workspace, code')
  figure('memory_by_trainer', ours.step.memoryBytes, "the trainer's own count")
}
