// The evaluation bench: the share of an evaluation's time in which the model computes, for each kind of task.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type EvaluationTask, evaluate, Model } from '../../lib/index.js'
import { trainTokenizer } from '../../lib/tokenizer/training/train.js'
import { machine, threads } from '../lib/machine.js'
import { showProgress } from '../lib/progress.js'
import { Report } from '../lib/report.js'
import { temporaryFolder } from '../lib/temporary_folder.js'
import { threadIds, threadTime } from '../lib/thread_time.js'
import { models } from '../train/shapes.js'
import { documentFiles, makeTasks } from './tasks.js'

const config = models.mor

/** Percent of the time between begin and end of a task, and tokens a second. */
interface Measured {
  /** The model's thread has something to compute: it runs, or waits for a processor. */
  model: number
  /** It runs. */
  running: number
  eventLoop: number
  rate: number
}

export async function benchEvaluate(rounds: number): Promise<Report> {
  using folder = temporaryFolder('mor-bench-evaluate-')
  const report = new Report('evaluate', machine())
  const tokenizerFolder = join(folder.path, 'tokenizer')
  const tokenizer = await trainTokenizer(documentFiles(), tokenizerFolder, { vocabSize: config.vocab_size })
  const tasks = makeTasks(folder.path)
  await Promise.all(tasks.map(() => readFile(__filename))) // starts Node's own threads
  const before = new Set(threadIds())
  await using model = await Model.create(config, { device: 'cpu', threads, seed: 1, tokenizer })
  const modelThread = threadIds().find((id) => !before.has(id))!
  const measured = new Map(tasks.map(({ name }): [string, Measured[]] => [name, []]))
  for (let round = -1; round < rounds; round++) {
    for (const task of tasks) {
      showProgress(`${round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`}: ${task.name}`)
      const figures = await measure(model, task, modelThread)
      if (round >= 0) measured.get(task.name)!.push(figures) // the first round warms up
    }
  }
  for (const [name, values] of measured) {
    const figure = (key: keyof Measured, unit: string, note = '') =>
      report.figure(
        `${name}.${key}`,
        values.map((one) => one[key]),
        unit,
        note,
      )
    figure('model', '%', "the model's thread runs, or waits for a processor")
    figure('running', '%', 'it runs: less than that where others use the processors')
    figure('eventLoop', '%', 'the event loop is busy')
    figure('rate', 'scored tokens/s')
  }
  return report
}

async function measure(model: Model, task: EvaluationTask, modelThread: number): Promise<Measured> {
  const loop = performance.eventLoopUtilization()
  const before = threadTime(modelThread)
  const begun = performance.now()
  const [result] = await evaluate(model, [task])
  const seconds = (performance.now() - begun) / 1000
  const after = threadTime(modelThread)
  const running = after.running - before.running
  return {
    model: (100 * (running + after.waiting - before.waiting)) / seconds,
    running: (100 * running) / seconds,
    eventLoop: 100 * performance.eventLoopUtilization(loop).utilization,
    rate: result!.tokens / seconds,
  }
}
