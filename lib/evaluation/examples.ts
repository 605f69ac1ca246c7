// Reads the examples of a task, and puts solved ones before them.
import { resolve } from 'node:path'
import { Checker } from '../check.js'
import { readJsonLines } from '../dataset/source.js'
import { MorError } from '../errors.js'
import { type EvaluationTask, found, type PerplexityTask } from './tasks.js'

export type ExamplesTask = Exclude<EvaluationTask, PerplexityTask>

/** Texts whose log-likelihoods after one context are compared. */
export interface Example {
  /** File and line, for messages. */
  where: string
  context: string
  /** Without the delimiter before them. */
  choices: string[]
  gold: number
}

/** An example as it is given to the model. */
export interface Prompted {
  where: string
  context: string
  /** With the delimiter. */
  continuations: string[]
  choices: string[]
  gold: number
}

/**
 * The examples of a task, each after the same solved ones: so its context begins like the others, and is computed once.
 * @throws {MorError} INVALID_ARGUMENT naming file and line; IO_ERROR
 */
export async function readExamples(task: ExamplesTask): Promise<Prompted[]> {
  const examples = await examplesOf(task.data, task.type)
  const wanted = examples.slice(0, task.limit)
  if (task.type === 'minimal_pairs') return wanted.map((example) => ({ ...example, continuations: example.choices }))
  const { fewShot = 0, fewShotData, seed = 0, description = '', delimiter = ' ', shotDelimiter = '\n\n' } = task
  const isOwn = fewShotData === undefined || resolve(fewShotData) === resolve(task.data)
  const source = isOwn ? examples : await examplesOf(fewShotData, task.type)
  const needed = fewShot > 0 && isOwn ? fewShot + 1 : fewShot
  if (source.length < needed) {
    const what = `${fewShotData ?? task.data} has ${source.length} examples; fewShot is ${fewShot}`
    const why = isOwn ? `, and an example is not shown to itself, so ${needed} are needed` : ': give at most as many'
    throw new MorError('INVALID_ARGUMENT', `task ${task.name}: ${what}${why}`)
  }
  const shots = sample(source, needed, seed)
  return wanted.map((example) => {
    const before = shots.filter((shot) => shot !== example).slice(0, fewShot)
    const solved = before.map((shot) => `${shot.context}${delimiter}${shot.choices[shot.gold]}${shotDelimiter}`)
    return {
      ...example,
      context: `${description}${solved.join('')}${example.context}`,
      continuations: example.choices.map((choice) => `${delimiter}${choice}`),
    }
  })
}

async function examplesOf(path: string, type: ExamplesTask['type']): Promise<Example[]> {
  const examples: Example[] = []
  for await (const { value, where } of readJsonLines(path))
    examples.push({ where, ...readers[type](Checker.of(value, where)) })
  if (examples.length === 0) throw new MorError('INVALID_ARGUMENT', `${path} holds no examples`)
  return examples
}

const readers: Record<ExamplesTask['type'], (check: Checker) => Omit<Example, 'where'>> = {
  multiple_choice(check) {
    const list: unknown = check.object.choices
    const choices = Array.isArray(list) ? list.filter((choice) => typeof choice === 'string' && choice !== '') : []
    if (!Array.isArray(list) || choices.length < list.length || list.length < 2) {
      check.fail(`choices ${found(list)}; it must be a list of at least two texts, none of them empty`)
    }
    const max = choices.length - 1
    // The checker takes null for a key that is left out.
    if (check.object.gold === null) check.fail(`gold is null; it must be an integer from 0 to ${max}`)
    return { context: text(check, 'query'), choices, gold: check.integer('gold', { min: 0, max }) }
  },
  last_word(check) {
    if (!check.has('text')) return { context: text(check, 'context'), choices: [text(check, 'continuation')], gold: 0 }
    const match = /^([\s\S]*\S)\s+(\S+)\s*$/.exec(text(check, 'text'))
    if (match === null) return check.fail('text has fewer than two words')
    return { context: match[1]!, choices: [match[2]!], gold: 0 }
  },
  minimal_pairs(check) {
    return { context: '', choices: [text(check, 'good'), text(check, 'bad')], gold: 0 }
  },
}

function text(check: Checker, key: string): string {
  const value = check.object[key]
  if (typeof value === 'string' && value !== '') return value
  return check.fail(`${key} ${found(value)}; it must be a text that is not empty`)
}

/** `count` different items, in an order that the seed decides: the first steps of a Fisher-Yates shuffle. */
export function sample<T>(items: readonly T[], count: number, seed: number): T[] {
  const rest = [...items]
  let state = seed >>> 0
  for (let i = 0; i < count; i++) {
    // The generator mulberry32.
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    const other = i + (((mixed ^ (mixed >>> 14)) >>> 0) % (rest.length - i))
    const item = rest[i]!
    rest[i] = rest[other]!
    rest[other] = item
  }
  return rest.slice(0, count)
}
