// Tasks of each kind for the evaluation bench, made of the documents of this repository.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { EvaluationTask } from '../../lib/index.js'

const root = join(__dirname, '..', '..')

/** Passages of a task, and words of one. */
const examples = 1000
const words = 60
const choices = 4

/** The texts: also what the tokenizer is trained on. */
export function documentFiles(): string[] {
  const docs = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'))
  return [join(root, 'README.md'), ...docs.sort().map((name) => join(root, 'docs', name))]
}

/** Writes the data of the tasks to `folder`. */
export function makeTasks(folder: string): EvaluationTask[] {
  const all = documentFiles().flatMap((file) => readFileSync(file, 'utf8').split(/\s+/).filter(Boolean))
  const passages = Array.from({ length: examples }, (_, i) => {
    const begin = Math.floor((i * (all.length - words)) / examples)
    return all.slice(begin, begin + words)
  })
  const answer = (i: number) => passages[i % examples]!.slice(-8).join(' ')
  const write = (name: string, lines: readonly object[]): string => {
    const path = join(folder, name)
    writeFileSync(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
    return path
  }
  const questions = passages.map((passage, i) => ({
    query: passage.slice(0, -8).join(' '),
    choices: Array.from({ length: choices }, (_, choice) => answer(i + choice * 7)),
    gold: 0,
  }))
  const pairs = passages.map((passage, i) => ({
    good: passage.slice(0, 20).join(' '),
    bad: [...passage.slice(0, 19), passages[(i + 7) % examples]![19]].join(' '),
  }))
  const texts = passages.map((passage) => ({ text: passage.join(' ') }))
  return [
    { name: 'perplexity', type: 'perplexity', data: documentFiles() },
    { name: 'multiple_choice', type: 'multiple_choice', data: write('questions.jsonl', questions) },
    { name: 'last_word', type: 'last_word', data: write('words.jsonl', texts) },
    { name: 'minimal_pairs', type: 'minimal_pairs', data: write('pairs.jsonl', pairs) },
  ]
}
