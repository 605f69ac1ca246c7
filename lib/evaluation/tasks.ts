// Tasks of an evaluation: what they say, and the JSON files that they are read from.
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { Checker, checkPath, isObject, type JsonObject, show } from '../check.js'
import { findInputs } from '../dataset/inputs.js'
import { MorError, toMorError } from '../errors.js'
import { mapInOrder } from '../map_in_order.js'

interface TaskBase {
  /** Name in the results. */
  name: string
  /** Most examples or documents to evaluate, from the start of the file. Default: all. */
  limit?: number
}

/** Loss, perplexity and bits per byte of text. Each document is read through a window that slides over its tokens. */
export interface PerplexityTask extends TaskBase {
  type: 'perplexity'
  /** Text files, each one document, or JSON Lines files with a document in each line. */
  data: string | readonly string[]
  /** Key of the text in a line. Default "text". */
  textField?: string
  /** Tokens of the window. Default: the context of the model. */
  length?: number
  /** Tokens that the window moves on, at most `length`: so each token follows at least length − stride others. Default: half of length. */
  stride?: number
}

interface ExamplesTask extends TaskBase {
  /** A JSON Lines file with an example in each line. */
  data: string
}

interface PromptedTask extends ExamplesTask {
  /** Solved examples that stand before each query. Default 0. */
  fewShot?: number
  /** The JSON Lines file that they are taken from. Default: `data`; an example is never its own. */
  fewShotData?: string
  /** Decides which they are. Default 0. */
  seed?: number
  /** Text before everything else. Default none. */
  description?: string
  /** Between a query or context and its continuation. Default a space. */
  delimiter?: string
  /** Between solved examples. Default two line ends. */
  shotDelimiter?: string
}

/** Lines { query, choices, gold }: the choice with the largest log-likelihood after the query should be that of index `gold`. */
export interface MultipleChoiceTask extends PromptedTask {
  type: 'multiple_choice'
}

/**
 * Lines { context, continuation }, or { text }, whose last word is the continuation: each token of it should be the most likely
 * one after the context (as in LAMBADA).
 */
export interface LastWordTask extends PromptedTask {
  type: 'last_word'
}

/** Lines { good, bad }: the good text should have a larger log-likelihood than the bad one (as in BLiMP). */
export interface MinimalPairsTask extends ExamplesTask {
  type: 'minimal_pairs'
}

export type EvaluationTask = PerplexityTask | MultipleChoiceTask | LastWordTask | MinimalPairsTask

const types = ['perplexity', 'multiple_choice', 'last_word', 'minimal_pairs'] as const
const baseKeys = ['name', 'type', 'data', 'limit']
const promptedKeys = [...baseKeys, 'fewShot', 'fewShotData', 'seed', 'description', 'delimiter', 'shotDelimiter']
const keysOf: Record<EvaluationTask['type'], string[]> = {
  perplexity: [...baseKeys, 'textField', 'length', 'stride'],
  multiple_choice: promptedKeys,
  last_word: promptedKeys,
  minimal_pairs: baseKeys,
}

/**
 * The task of a JSON file, or the tasks of a list in one. Paths in it are relative to it, and the texts of a perplexity task may be
 * named by patterns.
 * @throws {MorError} INVALID_ARGUMENT for what is no task, naming file and key; IO_ERROR
 */
export async function readTasks(path: string): Promise<EvaluationTask[]> {
  checkPath(path, 'readTasks: the file')
  const content = parseTasks(await readText(path), path)
  const list: unknown[] = Array.isArray(content) ? content : [content]
  if (list.length === 0) throw new MorError('INVALID_ARGUMENT', `${path} holds no tasks`)
  const from = (data: string) => resolve(dirname(path), data)
  return mapInOrder(list.entries(), async ([i, item]) => {
    const task = checkTask(item, Array.isArray(content) ? `${path}, task ${i + 1}` : path)
    const data = task.type === 'perplexity' ? await findInputs([task.data].flat().map(from)) : from(task.data)
    const shots = 'fewShotData' in task && task.fewShotData !== undefined && { fewShotData: from(task.fewShotData) }
    return { ...task, data, ...shots } as EvaluationTask
  })
}

async function readText(path: string): Promise<string> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw toMorError(error, path)
  })
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    const text = `${path} is no task file: its bytes are not UTF-8; convert it to UTF-8, or give a JSON file`
    throw new MorError('INVALID_ARGUMENT', text, { cause })
  }
}

function parseTasks(text: string, path: string): unknown {
  if (text.trim() === '') {
    throw new MorError('INVALID_ARGUMENT', `${path} is empty; it must hold a task or a list of tasks`)
  }
  try {
    return JSON.parse(text)
  } catch (cause) {
    if (isJsonLines(text)) {
      const advice = 'give a JSON file with a task whose data names it'
      throw new MorError('INVALID_ARGUMENT', `${path} looks like JSON Lines, the data of a task: ${advice}`, { cause })
    }
    // Where the parser tells no position, its message holds the text around it.
    const { message } = cause as Error
    const position = /at position (\d+)/.exec(message)?.[1]
    const line = position === undefined ? '' : `, line ${text.slice(0, Number(position)).split('\n').length}`
    throw new MorError('INVALID_ARGUMENT', `${path}${line} is not JSON: ${message}`, { cause })
  }
}

/** Whether a text that is not JSON begins with a line that is an object. */
function isJsonLines(text: string): boolean {
  try {
    return isObject(JSON.parse(text.trimStart().split('\n', 1)[0]!))
  } catch {
    return false
  }
}

/**
 * A copy of the task without the keys that are null, which count as left out.
 * @throws {MorError} INVALID_ARGUMENT, with a message that starts with `where`
 */
export function checkTask(value: unknown, where: string): EvaluationTask {
  const check = Checker.of(value, where).without((each) => each === null || each === undefined)
  const type = check.choice('type', types)
  check.onlyKeys(keysOf[type])
  check.text('name')
  if (check.has('limit')) check.integer('limit', { min: 1 })
  checkData(check, type)
  if (type === 'perplexity') {
    const length = check.integer('length', { min: 1, fallback: 2 ** 31 - 1 })
    check.integer('stride', { min: 1, max: length, fallback: 1 })
    checkText(check, 'textField')
  }
  for (const key of ['fewShotData', 'description', 'delimiter', 'shotDelimiter']) checkText(check, key)
  check.integer('fewShot', { min: 0, max: 1000, fallback: 0 })
  check.integer('seed', { min: 0, fallback: 0 })
  return structuredClone(check.object) as JsonObject & EvaluationTask
}

function checkData(check: Checker, type: EvaluationTask['type']): void {
  const { data } = check.object
  const paths: unknown[] = type === 'perplexity' && Array.isArray(data) ? data : [data]
  if (paths.length > 0 && paths.every((path) => typeof path === 'string' && path !== '')) return
  const list = type === 'perplexity' ? ', or a list of paths' : ''
  check.fail(`data ${found(data)}; it must be the path of a file${list}`)
}

function checkText(check: Checker, key: string): void {
  const value = check.object[key]
  if (value !== undefined && typeof value !== 'string') check.fail(`${key} is ${show(value)}; it must be a text`)
}

/** As messages say of the value of a key. */
export function found(value: unknown): string {
  return value === undefined ? 'is missing' : `is ${show(value)}`
}
