// What all runs of a study read: a tokenizer, a token dataset, and tasks made of the books that are held out.
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readSegments } from '../../lib/dataset/source.js'
import { mor } from './command_line.js'
import { lastWordExamples, minimalPairs } from './held_out_tasks.js'

export interface Corpus {
  dataset: string
  tokenizer: string
  /** The file of all tasks. */
  tasks: string
}

/** The held-out texts, a line each. */
export const heldOutFile = 'held_out.jsonl'

const vocabulary = 4096
/** Examples of a task: their standard error is below one percentage point. */
const examples = 2000

/**
 * Makes what is not there yet.
 * @param books a folder with `train-*.jsonl.xz` and `val.jsonl.xz`; each line has a document under `text`
 * @param folder for what is made
 */
export async function prepareCorpus(books: string, folder: string, abort: AbortSignal): Promise<Corpus> {
  mkdirSync(folder, { recursive: true })
  const corpus = {
    dataset: join(folder, 'dataset'),
    tokenizer: join(folder, 'tokenizer'),
    tasks: join(folder, 'tasks.json'),
  }
  const train = join(books, 'train-*.jsonl.xz')
  const heldOut = join(books, 'val.jsonl.xz')
  if (!existsSync(corpus.tokenizer)) {
    const size = ['--vocab-size', String(vocabulary)]
    await mor(['tokenizer', 'train', join(books, 'train-0.jsonl.xz'), ...size, '--output', corpus.tokenizer], abort)
  }
  if (!existsSync(corpus.dataset)) {
    // The few held-out tokens only show how a run goes; results are measured on the other books.
    const validation = ['--validation-fraction', '0.002']
    const tokenizer = ['--tokenizer', corpus.tokenizer]
    await mor(['prepare', train, ...tokenizer, ...validation, '--output', corpus.dataset], abort)
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
  const pairs = Object.entries(minimalPairs(texts, examples)).map(([phenomenon, lines]) => ({
    name: phenomenon,
    type: 'minimal_pairs',
    data: write(`${phenomenon}.jsonl`, lines),
  }))
  const tasks = [
    {
      name: 'held_out',
      type: 'perplexity',
      data: write(
        heldOutFile,
        texts.map((text) => ({ text })),
      ),
    },
    { name: 'last_word', type: 'last_word', data: write('last_word.jsonl', lastWordExamples(texts, examples)) },
    ...pairs,
  ]
  writeFileSync(`${file}.part`, `${JSON.stringify(tasks, null, 2)}\n`)
  renameSync(`${file}.part`, file)
}
