// Folders of runs, as `mor train` leaves them.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface StepValues {
  step: number
  lmLoss: number | null
  tokens: number
  flops: number
  seconds: number
  depthHistogram: number[]
  routingAccuracy: number | null
}

/** A record of a step; by default of 100 tokens. */
export function stepRecord(values: Partial<StepValues> & { step: number }): object {
  const defaults = { lmLoss: 3, tokens: 100, flops: 2e6, seconds: 0.5, depthHistogram: [100], routingAccuracy: null }
  return { type: 'step', loss: 3.1, learningRate: 0.01, ...defaults, ...values }
}

export function evaluationRecord(step: number, values: object = {}): object {
  return {
    type: 'evaluation',
    step,
    routing: 'threshold',
    lmLoss: 3.5,
    bitsPerByte: 2,
    depthHistogram: [50],
    ...values,
  }
}

/** Makes the folder of a run with these lines; objects become JSON. */
export function writeRun(folder: string, lines: readonly (object | string)[], results?: object): string {
  mkdirSync(folder, { recursive: true })
  const text = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n')
  writeFileSync(join(folder, 'metrics.jsonl'), `${text}\n`)
  if (results !== undefined) writeFileSync(join(folder, 'results.json'), JSON.stringify(results))
  return folder
}

/** A run of `count` steps, whose loss falls as 4 / sqrt(step), with an evaluation after every tenth. */
export function fallingRun(count: number, { depths = [100] }: { depths?: number[] } = {}): object[] {
  return Array.from({ length: count }, (_, i) => i + 1).flatMap((step) => {
    const record = stepRecord({ step, lmLoss: 4 / Math.sqrt(step), depthHistogram: depths })
    if (step % 10 !== 0) return [record]
    return [record, evaluationRecord(step, { lmLoss: 4.2 / Math.sqrt(step), depthHistogram: depths })]
  })
}
