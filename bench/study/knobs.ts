// What one trained model gives at test time for every routerThreshold and maxRecursions: the curve that a service chooses
// its point from.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { evaluate, Model, readTasks } from '../../lib/index.js'
import { machine } from '../lib/machine.js'
import { table } from '../lib/report.js'
import { type Served, serveByTurns } from './serving.js'

/** Of the held-out ones that are read: all points read the same text, so that they can be compared. */
const documents = 2

/** Logits of the thresholds are equally far apart. */
const thresholds = [0.12, 0.27, 0.4, 0.5, 0.6, 0.73, 0.88]

export interface KnobPoint extends Served {
  routerThreshold: number
  maxRecursions: number
  /** Of the first held-out books under this routing. */
  loss: number
  bitsPerByte: number
}

export interface Knobs {
  machine: string
  points: KnobPoint[]
}

/** Measures the model of one run. @param tasks the file of all tasks; @param file gets the result */
export async function measureKnobs(checkpoint: string, tasks: string, file: string): Promise<void> {
  const [heldOut] = await readTasks(tasks)
  await using model = await Model.load(checkpoint)
  const { num_recursions: recursions } = model.config
  const routings = [
    ...thresholds.map((routerThreshold) => ({ routerThreshold, maxRecursions: recursions })),
    ...Array.from({ length: recursions - 1 }, (_, i) => ({ routerThreshold: 0.5, maxRecursions: i + 1 })),
  ]
  const served = await serveByTurns(
    routings.map((routing) => ({ model, routing })),
    dirname(tasks),
  )
  const points: KnobPoint[] = []
  for (const [i, routing] of routings.entries()) {
    const [result] = await evaluate(model, [{ ...heldOut!, limit: documents }], routing)
    const { loss, bitsPerByte } = result!.metrics
    points.push({ ...routing, loss: loss!.value, bitsPerByte: bitsPerByte!.value, ...served[i]! })
  }
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify({ machine: machine(), points } satisfies Knobs, null, 1)}\n`)
  const head = ['threshold', 'most recursions', 'mean depth', 'loss', 'bits per byte', 'tokens/s']
  const rows = points.map((point) => [
    point.routerThreshold.toFixed(2),
    String(point.maxRecursions),
    point.meanDepth.toFixed(3),
    point.loss.toFixed(4),
    point.bitsPerByte.toFixed(4),
    point.tokensPerSecond.median.toFixed(0),
  ])
  console.log(table(head, rows).join('\n'))
}
