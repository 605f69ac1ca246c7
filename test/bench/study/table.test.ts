// The table of a study: rows of made-up results, and that of the documentation, which must be the one of the committed results.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { qualityRuns } from '../../../bench/quality/manifest.js'
import type { StudyResult, Tasks } from '../../../bench/study/run.js'
import { idOf, neededBy } from '../../../bench/study/study.js'
import { kindsTable, markdownTable, meanAndSpread } from '../../../bench/study/table.js'
import { uptrainRuns } from '../../../bench/uptrain/manifest.js'
import { root } from '../../source_files.js'

let results: string
beforeEach(() => {
  results = mkdtempSync(join(tmpdir(), 'mor-table-'))
})
afterEach(() => rmSync(results, { recursive: true }))

const accuracy = (value: number) => ({ accuracy: { value, standardError: 0.01 } })
/** As the results of the first version have them. */
const firstTasks = { last_word: accuracy(0.25), verb_number: accuracy(0.5), word_order: accuracy(1) }

function write(seed: number, loss: number, routed: boolean, made: Tasks = firstTasks): void {
  const tasks = (value: number): Tasks => ({
    held_out: { loss: { value, standardError: 0.01 }, bitsPerByte: { value: value / 2, standardError: 0.01 } },
    ...made,
  })
  const result: StudyResult = {
    name: 'vanilla',
    seed,
    machine: 'some machine',
    commands: [],
    parameters: 8.5e6,
    training: {
      steps: 1000,
      tokens: 16e6,
      flops: 1e15,
      seconds: 100,
      tokensPerSecond: 1,
      peakMemoryBytes: 2 ** 30,
      loss: 3,
      distillationLoss: 0,
      routingAccuracy: routed ? 0.975 : null,
      meanDepth: routed ? 1.4 : null,
      heldOutDepth: routed ? 1.5 : null,
      curve: [],
    },
    heldOut: { threshold: tasks(loss), ...(routed && { topk: tasks(loss - 0.25) }) },
  }
  writeFileSync(join(results, `vanilla.seed${seed}.json`), JSON.stringify(result))
}

const rowsOf = () => markdownTable(qualityRuns, { work: '', results }).slice(2)

it('has a row with the mean of the seeds that have ended', () => {
  write(1, 3, false)
  write(2, 3.5, false)
  expect(rowsOf()).toEqual([
    '| `vanilla` | 2 | 8.50M | 16.0M | 1.00P | 1.6250 ± 0.1250 |  |  |  | 25.0% | 75.0% |  | 1024 MiB |  |',
  ])
})

it('shows what causal routing loses, and the times of steps and of serving of the seeds that were measured', () => {
  write(1, 3, true)
  write(2, 3, true)
  const models = { 'vanilla.seed1': { tokensPerSecond: { median: 1234, min: 1, max: 2000 }, meanDepth: 1 } }
  writeFileSync(join(results, 'serving.json'), JSON.stringify({ models }))
  const runs = { 'vanilla.seed1': { median: 0.25, min: 0.2, max: 3 } }
  writeFileSync(join(results, 'step_times.json'), JSON.stringify({ runs }))
  expect(rowsOf()).toEqual([
    '| `vanilla` | 2 | 8.50M | 16.0M | 1.00P | 1.5000 | 0.2500 | 97.5% | 1.50 | 25.0% | 75.0% | 250 s | 1024 MiB | 1234 |',
  ])
})

it('names the version of tasks made of the books, and gives no mean over different ones', () => {
  const second = {
    'last_word.2': accuracy(0.5),
    'minimal_pairs.2.nouns': accuracy(0.75),
    'minimal_pairs.2.tense': accuracy(0.5),
  }
  write(1, 3, false, second)
  expect(rowsOf()[0]).toContain('| 50.0% (2) | 62.5% (2) |')
  const kinds = () => kindsTable(qualityRuns, { work: '', results })
  expect(kinds()).toEqual([
    '| run | minimal_pairs.2.nouns | minimal_pairs.2.tense |',
    '| --- | --- | --- |',
    '| `vanilla` | 75.0% | 50.0% |',
  ])
  write(2, 3, false)
  expect(rowsOf()[0]).toContain('| 1.5000 |  |  |  |  |  |  | 1024 MiB |')
  expect(kinds()[0]).toBe('| run | minimal_pairs.2.nouns | minimal_pairs.2.tense | verb_number | word_order |')
  expect(kinds()[2]).toBe('| `vanilla` |  |  |  |  |')
})

it('is what the documentation shows of the study of quality', () => {
  const table = markdownTable(qualityRuns, { work: '', results: join(root, 'bench/quality/results') })
  const shown = readFileSync(join(root, 'docs/quality.md'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `') && line.split('|').length === table[0]!.split('|').length)
  expect(shown, 'npm run study -- table quality').toEqual(table.slice(2))
})

it('leaves out a spread, and a sign, that rounds to nothing', () => {
  expect(meanAndSpread([1, 1.001], 2)).toBe('1.00')
  expect(meanAndSpread([1, 2], 2)).toBe('1.50 ± 0.50')
  expect(meanAndSpread([-0.001], 2)).toBe('0.00')
})

it('names every run once, and every run that another one needs', () => {
  for (const runs of [qualityRuns, uptrainRuns]) {
    const ids = runs.map(idOf)
    expect(new Set(ids).size).toBe(ids.length)
    for (const needed of runs.flatMap(neededBy)) expect(ids).toContain(idOf(needed))
  }
})
