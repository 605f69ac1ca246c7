// The part `train`: steps of a vanilla model and of Mixtures-of-Recursions, and how they compare.
import { densePeak } from '../ops/figures.js'
import type { Part } from './part.js'
import { runWorker } from './work.js'
import type { TrainFact, TrainRequest } from './work_train.js'

/** Seconds of one model at one batch: initialisation, warm-up and rounds. */
const caseSeconds = 90

export async function train(part: Part): Promise<void> {
  const { report, shapes } = part
  const peak = densePeak(report.result.machine)
  if (peak === undefined)
    report.remark(`the dense peak of ${report.result.machine} is not known, so no share of it is told`)
  for (const batch of shapes.batches) {
    const of = `${batch.rows}x${batch.length}`
    const found: Partial<Record<string, TrainFact>> = {}
    for (const [model, config] of Object.entries(shapes.train)) {
      const request: TrainRequest = { name: `${model}_${of}`, config, batch }
      const job = { work: 'train', name: `training ${request.name}`, seconds: caseSeconds, request } as const
      const fact = (await runWorker(part, job))[request.name] as TrainFact | undefined
      if (fact === undefined) continue
      found[model] = fact
      if (peak !== undefined)
        report.ratio(`train_${request.name}_of_peak`, fact.flops / peak, 'executed FLOP/s over the dense peak')
    }
    const { vanilla, mor_2, mor_3 } = found
    if (vanilla && mor_2) {
      report.ratio(`train_mor_2_${of}_time_over_vanilla`, mor_2.seconds / vanilla.seconds)
      report.ratio(`train_mor_2_${of}_memory_over_vanilla`, mor_2.memoryBytes / vanilla.memoryBytes)
    }
    if (vanilla && mor_3) report.ratio(`train_mor_3_${of}_use_over_vanilla`, mor_3.flops / vanilla.flops)
  }
}
