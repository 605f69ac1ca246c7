// `mor evaluate`: measures a checkpoint by tasks, and shows a table of the results or JSON lines.
import { basename, extname } from 'node:path'
import { findInputs } from '../dataset/inputs.js'
import { MorError } from '../errors.js'
import { evaluate, type TaskResult } from '../evaluate.js'
import { type EvaluationTask, readTasks } from '../evaluation/tasks.js'
import { mapInOrder } from '../map_in_order.js'
import { type LoadOptions, Model } from '../model.js'
import type { Routing } from '../native/model.js'
import { formatCount, formatDuration } from './format.js'
import type { Output } from './output.js'
import { findCheckpointTokenizer } from './tokenizer_source.js'

export interface EvaluateCommandOptions extends Pick<LoadOptions, 'device' | 'dtype' | 'threads' | 'nice'> {
  /** Text and JSON Lines files, patterns of them, and - for standard input: a perplexity task for each. */
  text?: string[]
  /** Key of the text in a line of these. */
  textField: string
  routing: Routing
  routerThreshold?: number
  maxRecursions?: number
  tokenizer?: string
}

/** Throws what `evaluate` throws; results that are there by then have been shown. */
export async function evaluateCheckpoint(
  checkpoint: string,
  files: readonly string[],
  options: EvaluateCommandOptions,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const { device, dtype, threads, nice, text = [], textField, tokenizer: source, ...routing } = options
  const read = await mapInOrder(files, async (file) =>
    (await readTasks(file)).map((task, i): SourcedTask => ({ task, source: `${file}, task ${i + 1},` })),
  )
  const sourced = read.flat()
  const json = text.find((path) => extname(path).toLowerCase() === '.json')
  if (json !== undefined) {
    const what = `${json} is among the files of --text, which takes all files that follow it, and JSON files are no texts`
    throw new MorError('INVALID_ARGUMENT', `${what}: put task files before --text`)
  }
  const texts = await findInputs(text)
  const names = texts.map((data) => basename(data))
  for (const [i, data] of texts.entries()) {
    const name = names.filter((other) => other === names[i]).length === 1 ? names[i]! : data
    sourced.push({ task: { name, type: 'perplexity', data, textField }, source: `--text ${data}` })
  }
  const tasks = sourced.map(({ task }) => task)
  if (tasks.length === 0) {
    throw new MorError('INVALID_ARGUMENT', 'there is nothing to evaluate: name task files, or texts with --text')
  }
  checkNames(sourced)
  const tokenizer = await findCheckpointTokenizer(checkpoint, source)
  await using model = await Model.load(checkpoint, { device, dtype, threads, nice, signal })
  const width = Math.max(...tasks.map(({ name }) => name.length))
  try {
    await evaluate(model, tasks, {
      ...routing,
      tokenizer,
      signal,
      onProgress: ({ task, done, total, tokens }) => {
        const of = total === null ? ' documents' : `/${total}`
        if (output.mode === 'terminal') output.progress({}, `${task}  ${done}${of}, ${formatCount(tokens)} tokens`)
      },
      onResult: (result) => output.event({ ...result, type: 'result', kind: result.type }, formatResult(result, width)),
    })
  } finally {
    output.end()
  }
}

/** A task, and where the command line names it, for messages. */
interface SourcedTask {
  task: EvaluationTask
  source: string
}

function checkNames(sourced: readonly SourcedTask[]): void {
  for (const { task, source } of sourced) {
    const first = sourced.find((other) => other.task.name === task.name)!
    if (first.task === task) continue
    const which = `${first.source} and ${source} have the name ${JSON.stringify(task.name)}`
    throw new MorError('INVALID_ARGUMENT', `${which}, by which results are told apart; give each its own`)
  }
}

/** Results of one model are compared under several routings. */
function formatRouting({ routing, routerThreshold, maxRecursions }: TaskResult): string {
  const rule = routing === 'topk' ? ', top-k' : routerThreshold === undefined ? '' : `, threshold ${routerThreshold}`
  return `${rule}, recursions ≤ ${maxRecursions}`
}

/** A line for each metric. */
function formatResult(result: TaskResult, width: number): string {
  const shots = result.fewShot === 0 ? '' : `, ${result.fewShot} shots`
  const cut = result.cut === 0 ? '' : `, ${result.cut} cut to the context`
  const counts = `${result.examples} examples${shots}, ${formatCount(result.tokens)} tokens${cut}`
  const facts = `${counts}${formatRouting(result)}, ${formatDuration(result.seconds)}`
  return Object.entries(result.metrics)
    .map(([name, { value, standardError }], i) => {
      const error = standardError === null ? '' : `± ${standardError.toFixed(4)}`
      const line = `${(i === 0 ? result.task : '').padEnd(width)}  ${name.padEnd(12)} ${value.toFixed(4).padStart(10)} ${error.padEnd(10)}`
      return i === 0 ? `${line} ${facts}` : line.trimEnd()
    })
    .join('\n')
}
