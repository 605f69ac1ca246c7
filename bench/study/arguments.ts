// What the command line of the studies asks for, and what is wrong with it.
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { suggestion } from '../../lib/suggest.js'
import { root } from './command_line.js'
import { idOf, type StudyRun } from './study.js'

const commands = ['run', 'serve', 'time', 'knobs', 'table'] as const

export interface Arguments {
  command: (typeof commands)[number]
  study: string
  /** At least one; exactly one for knobs. */
  runs: readonly StudyRun[]
  /** Given for run. */
  books: string
  work: string
}

export function usageOf(studies: Record<string, unknown>): string {
  return `usage: npm run study -- <command> <study> [options]
  run    trains and evaluates the runs that have no result yet, in the order of the manifest
  serve  measures tokens a second of the models that are there, by turns
  time   measures seconds of a training step of these models, by turns
  knobs  measures the model of one run at every threshold and number of recursions
  table  writes the results as Markdown tables
options:
  --only <text>     runs whose name contains it
  --books <folder>  train-*.jsonl.xz and val.jsonl.xz, for run
  --work <folder>   where runs are kept; default: runs/study
  --help            this text
studies: ${Object.keys(studies).join(', ')}`
}

/** Null where help is asked for. @throws {Error} saying what is wrong */
export function readArguments(args: string[], studies: Record<string, readonly StudyRun[]>): Arguments | null {
  const { positionals, values } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      only: { type: 'string', default: '' },
      books: { type: 'string' },
      work: { type: 'string', default: join(root, 'runs', 'study') },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return null
  const [name, study, extra] = positionals
  const names = Object.keys(studies)
  if (name === undefined) throw new Error('no command is given; give run, serve, time, knobs or table, and a study')
  const command = commands.find((known) => known === name)
  if (command === undefined) throw unknown('command', name, commands)
  if (study === undefined) throw new Error(`no study is given; give ${names.join(' or ')}`)
  if (!names.includes(study)) throw unknown('study', study, names)
  if (extra !== undefined) throw new Error(`${extra} is one word too many: give a command and a study`)
  const { only, books = '', work } = values
  const runs = studies[study]!.filter((run) => idOf(run).includes(only))
  if (runs.length === 0) {
    const known = [...new Set(studies[study]!.map((run) => run.name))].join(', ')
    const seeds = 'each with .seed1 or the like behind it'
    throw new Error(`no run of ${study} has a name with "${only}" in it; there are ${known}, ${seeds}`)
  }
  if (command === 'run' && books === '')
    throw new Error('run needs the books: give the folder of train-*.jsonl.xz and val.jsonl.xz as --books')
  if (command === 'knobs' && runs.length > 1) {
    const advice = `give the name of one as --only, such as ${idOf(runs[0]!)}`
    throw new Error(`knobs measures one run, and ${runs.length} are named: ${advice}`)
  }
  return { command, study, runs, books, work }
}

function unknown(what: string, name: string, known: readonly string[]): Error {
  return new Error(`there is no ${what} ${name}${suggestion(name, known)}; there are ${known.join(', ')}`)
}
