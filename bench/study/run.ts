// Takes one run of a study from where it is to its result: model, training, evaluation under both routings.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { hasSaved, readRunRecord, runFiles } from '../../lib/cli/run_folder.js'
import { flagOf } from '../../lib/cli/train_options.js'
import { readCheckpointConfig } from '../../lib/config_file.js'
import type { TaskResult } from '../../lib/evaluate.js'
import { parameterCount } from '../../lib/model_size.js'
import type { Routing } from '../../lib/native/model.js'
import { readTrainerCheckpoint } from '../../lib/trainer_checkpoint.js'
import { machine } from '../lib/machine.js'
import { mor } from './command_line.js'
import type { Corpus } from './corpus.js'
import { summarizeMetrics, type Training } from './metrics.js'
import { addReportResults } from './report_results.js'
import { batchSize, idOf, length, type StudyRun } from './study.js'

/** What is committed of a run. */
export interface StudyResult {
  name: string
  seed: number
  machine: string
  /** The commands that make the model, with folders left out. */
  commands: string[]
  parameters: number
  training: Training
  /** By task; `topk`, of the held-out text alone, is absent without an expert-choice router. */
  heldOut: { threshold: Tasks; topk?: Tasks }
}

/** Metrics of each task with their standard errors. */
export type Tasks = Record<string, TaskResult['metrics']>

/** Where the files of a study are. */
export interface Places {
  /** Runs, converted models and configurations. */
  work: string
  /** Results. */
  results: string
}

/** The folder that `mor train` makes. */
export function folderOf(run: StudyRun, { work }: Places): string {
  return join(work, idOf(run))
}

/** The model of a run that has ended. */
export function checkpointOf(run: StudyRun, places: Places): string {
  return runFiles(folderOf(run, places)).checkpoint
}

/** Those that have a model, to be measured together. @throws {Error} if there is none */
export function runsWithModels(runs: readonly StudyRun[], places: Places): StudyRun[] {
  const present = runs.filter((run) => existsSync(checkpointOf(run, places)))
  if (present.length === 0) throw new Error(`no run has a model in ${places.work} yet`)
  return present
}

/** Null if the run has not ended. */
export function readResult(run: StudyRun, { results }: Places): StudyResult | null {
  const file = join(results, `${idOf(run)}.json`)
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as StudyResult) : null
}

/** Makes the result of a run that has none; what is needed from other runs must be there. */
export async function finishRun(run: StudyRun, corpus: Corpus, places: Places, abort: AbortSignal): Promise<void> {
  const commands = await trainRun(run, corpus, places, abort)
  const training = await summarizeMetrics(runFiles(folderOf(run, places)).metrics, abort)
  const checkpoint = checkpointOf(run, places)
  const { config } = await readCheckpointConfig(checkpoint)
  const evaluate = async (routing: Routing, ...what: string[]): Promise<Tasks> => {
    const lines = await mor(['evaluate', checkpoint, ...what, '--routing', routing], abort)
    return Object.fromEntries(
      lines.filter(({ type }) => type === 'result').map((line) => [line.task, line.metrics]),
    ) as Tasks
  }
  // Top-k sees the whole sequence, so that its answers in the other tasks would mean nothing.
  const heldOutTopK = async (): Promise<Tasks> => {
    const [metrics] = Object.values(await evaluate('topk', '--text', corpus.heldOut))
    return { held_out: metrics! }
  }
  const threshold = await evaluate('threshold', corpus.tasks)
  const routed = config.router?.type === 'expert_choice'
  const result: StudyResult = {
    name: run.name,
    seed: run.seed,
    machine: machine(),
    commands,
    parameters: parameterCount(config).total,
    training,
    heldOut: { threshold, ...(routed && { topk: await heldOutTopK() }) },
  }
  const { threshold: heldOut, topk } = result.heldOut
  addReportResults(folderOf(run, places), {
    heldOut: {
      ...(topk && { lossTopK: topk.held_out!.loss!.value }),
      lossThreshold: heldOut.held_out!.loss!.value,
      bitsPerByte: heldOut.held_out!.bitsPerByte!.value,
    },
  })
  mkdirSync(places.results, { recursive: true })
  const file = join(places.results, `${idOf(run)}.json`)
  writeFileSync(`${file}.part`, `${JSON.stringify(result, null, 1)}\n`)
  renameSync(`${file}.part`, file)
}

/** Whether its model is here, trained to the end: a result may have been committed on another machine. */
export async function hasModel(run: StudyRun, places: Places): Promise<boolean> {
  const folder = folderOf(run, places)
  if (!(await canResume(folder))) return false
  return (await readTrainerCheckpoint(runFiles(folder).checkpoint)).stepsDone === run.steps
}

/** Trains to the end, and returns the commands that do it from the start. */
export async function trainRun(run: StudyRun, corpus: Corpus, places: Places, abort: AbortSignal): Promise<string[]> {
  const folder = folderOf(run, places)
  const { start, steps, seed, learningRate, teacher, options = [] } = run
  const begin = `${folder}.start`
  const commands: string[][] = []
  const from: string[] = []
  if ('config' in start) {
    mkdirSync(places.work, { recursive: true })
    writeFileSync(`${begin}.json`, `${JSON.stringify(start.config, null, 2)}\n`)
    from.push('--config', `${begin}.json`, '--tokenizer', corpus.tokenizer)
  } else if (start.convert === undefined) {
    from.push('--from', checkpointOf(start.run, places))
  } else {
    from.push('--from', begin)
    commands.push(['convert', checkpointOf(start.run, places), begin, ...start.convert])
  }
  const values = { steps, batchSize, length, learningRate, seed, evalEvery: 1000 }
  const course = Object.entries(values).flatMap(([name, value]) => [flagOf(name), String(value)])
  const taught = teacher === undefined ? [] : ['--teacher', checkpointOf(teacher, places)]
  const files = ['--data', corpus.dataset, '--output', folder]
  commands.push(['train', ...from, ...course, ...taught, ...options, ...files])

  if (await canResume(folder)) {
    await mor(['train', '--resume', '--output', folder], abort)
  } else {
    rmSync(folder, { recursive: true, force: true }) // stopped before its first checkpoint
    rmSync(begin, { recursive: true, force: true })
    for (const command of commands) await mor(command, abort)
  }
  return commands.map((command) => `mor ${command.map((part) => nameless(part, places, corpus)).join(' ')}`)
}

/** Whether it has been saved, so that it can go on. */
async function canResume(folder: string): Promise<boolean> {
  return existsSync(runFiles(folder).record) && (await hasSaved(folder, await readRunRecord(folder)))
}

function nameless(part: string, { work }: Places, { dataset, tokenizer }: Corpus): string {
  if (part === dataset) return 'dataset'
  if (part === tokenizer) return 'tokenizer'
  return part.startsWith(work) ? part.slice(work.length + 1) : part
}
