// What all runs of the studies read: a tokenizer, a token dataset, and tasks made of the books that are held out.
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readSegments } from '../../lib/dataset/source.js'
import { mor } from './command_line.js'
import { lastWordExamples } from './last_words.js'
import { minimalPairs } from './minimal_pairs.js'

export interface Corpus {
  dataset: string
  /** A folder. */
  tokenizer: string
  /** The file of all tasks. */
  tasks: string
  /** The held-out texts, a line each. */
  heldOut: string
}

export const heldOutFile = 'held_out.jsonl'

/**
 * Results name tasks with it, except for the first version, which has none: other examples make another task. Version 1 had at most 446 last
 * words, and pairs that every model tells apart.
 */
export const tasksVersion = 2
export const tasksFile = `tasks.${tasksVersion}.json`

/**
 * 4096 tokens, trained on `train-0.jsonl.xz`. It is committed, since runs can be compared only if they read the same tokens, and a later version
 * of `mor tokenizer train` may choose others.
 */
const tokenizer = join(__dirname, 'tokenizer')

/** Their standard error is below one percentage point. */
const lastWords = 4000
/** Of each kind, at most. */
const pairs = 1000

/**
 * Makes what is not there yet.
 * @param books a folder with `train-*.jsonl.xz` and `val.jsonl.xz`; each line has a document under `text`
 * @param folder for what is made
 */
export async function prepareCorpus(books: string, folder: string, abort: AbortSignal): Promise<Corpus> {
  mkdirSync(folder, { recursive: true })
  const corpus = {
    dataset: join(folder, 'dataset'),
    tokenizer,
    tasks: join(folder, tasksFile),
    heldOut: join(folder, heldOutFile),
  }
  const train = join(books, 'train-*.jsonl.xz')
  const heldOut = join(books, 'val.jsonl.xz')
  if (!existsSync(corpus.dataset)) {
    // The few held-out tokens only show how a run goes; results are measured on the other books.
    const validation = ['--validation-fraction', '0.002']
    await mor(['prepare', train, '--tokenizer', tokenizer, ...validation, '--output', corpus.dataset], abort)
  }
  if (!existsSync(corpus.tasks)) await writeTasks(heldOut, folder, corpus.tasks, abort)
  return corpus
}

async function writeTasks(heldOut: string, folder: string, file: string, abort: AbortSignal): Promise<void> {
  const texts = ['']
  for await (const { text, endsDocument } of readSegments([heldOut], {
    textField: 'text',
    format: null,
    signal: abort,
  })) {
    texts.push(texts.pop()! + text)
    if (endsDocument) texts.push('')
  }
  texts.pop()
  const write = (name: string, lines: readonly object[]): string => {
    writeFileSync(join(folder, name), lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
    return name
  }
  const examples = (name: string, type: 'last_word' | 'minimal_pairs', lines: readonly object[]) => {
    return { name, type, data: write(`${name}.jsonl`, lines) }
  }
  const tasks = [
    {
      name: 'held_out',
      type: 'perplexity',
      data: write(
        heldOutFile,
        texts.map((text) => ({ text })),
      ),
    },
    examples(`last_word.${tasksVersion}`, 'last_word', lastWordExamples(texts, lastWords)),
    ...Object.entries(minimalPairs(texts, pairs)).map(([kind, lines]) =>
      examples(`minimal_pairs.${tasksVersion}.${kind}`, 'minimal_pairs', lines),
    ),
  ]
  writeFileSync(`${file}.part`, `${JSON.stringify(tasks, null, 2)}\n`)
  renameSync(`${file}.part`, file)
}
