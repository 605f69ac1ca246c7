// The lines of docs/report.md that convert metrics.jsonl for TensorBoard, run on a stand-in for the library that they use.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { evaluationRecord, stepRecord, writeRun } from './run_files.js'

const hasPython = spawnSync('python3', ['--version']).status === 0
if (!hasPython) process.stderr.write('SKIPPED: the conversion for TensorBoard: no python3\n')

/** Writes what it is given as JSON lines. */
const standIn = `
import json

class SummaryWriter:
    def __init__(self, logdir):
        self.file = open(logdir, "w")
    def add_scalar(self, tag, value, step):
        self.file.write(json.dumps([tag, value, step]) + "\\n")
    def close(self):
        self.file.close()
`

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-trackers-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

it.skipIf(!hasPython)('give every number of every record to the tracker', { timeout: 60_000 }, () => {
  const [, script] = readFileSync(join('docs', 'report.md'), 'utf8').match(/```python\n([\s\S]*?)```/)!
  writeFileSync(join(folder, 'convert.py'), script!)
  mkdirSync(join(folder, 'tensorboardX'))
  writeFileSync(join(folder, 'tensorboardX', '__init__.py'), standIn)
  const records = [
    stepRecord({ step: 1, lmLoss: 4.5, depthHistogram: [1, 2] }),
    { type: 'refused', step: 1, message: 'the loss is NaN' },
    stepRecord({ step: 2, lmLoss: null }),
    evaluationRecord(2, { lmLoss: 4.75 }),
  ]
  const run = writeRun(join(folder, 'run'), [...records, '{"type":"step","st'])
  const metrics = join(run, 'metrics.jsonl')
  writeFileSync(metrics, readFileSync(metrics, 'utf8').trimEnd())
  execFileSync('python3', [join(folder, 'convert.py'), metrics, join(folder, 'events')])
  const written = readFileSync(join(folder, 'events'), 'utf8').trim().split('\n')
  const expected = (records as Record<string, unknown>[]).flatMap(({ type, step, ...values }) =>
    Object.entries(values)
      .filter(([, value]) => typeof value === 'number')
      .map(([name, value]) => [`${type}/${name}`, value, step]),
  )
  expect(expected.length).toBeGreaterThan(10)
  expect(written.map((line) => JSON.parse(line))).toEqual(expected)
})
