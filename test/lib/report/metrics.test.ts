// metrics.jsonl: what is read of it, and how lines that are no records are named.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { readMetrics } from '../../../lib/report/metrics.js'
import { evaluationRecord, stepRecord } from './run_files.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-report-metrics-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const { signal } = new AbortController()
let files = 0

function write(text: string): string {
  const path = join(folder, `${files++}.jsonl`)
  writeFileSync(path, text)
  return path
}

const line = (record: object) => `${JSON.stringify(record)}\n`
const read = (text: string) => readMetrics(write(text), signal)

it('adds up what training cost, and gives evaluations the cost until then', async () => {
  const text = [
    stepRecord({ step: 1, lmLoss: 5, tokens: 100, flops: 2e6, seconds: 0.5, depthHistogram: [60, 40] }),
    stepRecord({
      step: 2,
      lmLoss: 4,
      tokens: 50,
      flops: 1e6,
      seconds: 0.25,
      depthHistogram: [10, 20],
      routingAccuracy: 0.75,
    }),
    evaluationRecord(2, { lmLoss: 4.5, bitsPerByte: 1.5, tokens: 35, depthHistogram: [10, 20] }),
    stepRecord({ step: 3, lmLoss: 3, tokens: 100, flops: 2e6, seconds: 0.5 }),
  ].map(line)
  const { steps, evaluations, refused, missingLosses, missing } = await read(text.join(''))
  expect(steps.map(({ step, lmLoss, tokens, flops, seconds }) => [step, lmLoss, tokens, flops, seconds])).toEqual([
    [1, 5, 100, 2e6, 0.5],
    [2, 4, 150, 3e6, 0.75],
    [3, 3, 250, 5e6, 1.25],
  ])
  expect(steps.map(({ routingAccuracy }) => routingAccuracy)).toEqual([Number.NaN, 0.75, Number.NaN])
  expect(steps.map(({ tokensByDepth }) => tokensByDepth)).toEqual([
    [0, 60, 40],
    [20, 10, 20],
    [0, 100],
  ])
  const cost = { tokens: 150, flops: 3e6, seconds: 0.75 }
  expect(evaluations).toEqual([{ step: 2, ...cost, lmLoss: 4.5, bitsPerByte: 1.5, tokensByDepth: [5, 10, 20] }])
  expect({ refused, missingLosses, missing }).toEqual({ refused: 0, missingLosses: 0, missing: null })
})

it('ignores half a last line, blank lines and other types, and accepts a whole last line without its end', async () => {
  const first = line(stepRecord({ step: 1 }))
  const second = line(stepRecord({ step: 2 }))
  const half = await read(`${first}\n${line({ type: 'note', text: 'later' })}${second.slice(0, 30)}`)
  expect(half.steps.map(({ step }) => step)).toEqual([1])
  const whole = await read(first + second.trimEnd())
  expect(whole.steps.map(({ step }) => step)).toEqual([1, 2])
})

it.each([
  ['steps in the middle', [stepRecord({ step: 1 }), stepRecord({ step: 4 }), stepRecord({ step: 6 })], 3, 4],
  ['the first step', [stepRecord({ step: 2 }), stepRecord({ step: 3 })], 1, 2],
  ['the step of an evaluation', [stepRecord({ step: 1 }), evaluationRecord(2), stepRecord({ step: 3 })], 1, 2],
])('says where %s are missing', async (_, records, steps, from) => {
  expect((await read(records.map(line).join(''))).missing).toEqual({ steps, from })
})

it.each([
  ['a step that was done before', stepRecord({ step: 2 }), 2],
  ['an earlier step', stepRecord({ step: 1 }), 1],
  ['an evaluation of an earlier step', evaluationRecord(1), 1],
])('refuses %s', async (_, record, step) => {
  const text = [stepRecord({ step: 1 }), evaluationRecord(1), stepRecord({ step: 2 }), evaluationRecord(2), record]
  await expect(read(text.map(line).join(''))).rejects.toMatchObject({
    code: 'CHECKPOINT_INVALID',
    message: expect.stringMatching(
      new RegExp(
        `line 5: step is ${step}, after a line of step 2; the lines of a run stand in the order of its steps$`,
      ),
    ),
  })
})

it('reads records longer than the chunks in which a file comes', async () => {
  const message = 'x\u2028'.repeat(60_000)
  const { steps, refused } = await read(
    line(stepRecord({ step: 1 })) + line({ type: 'refused', step: 1, message }) + line(stepRecord({ step: 2 })),
  )
  expect(steps.map(({ step }) => step)).toEqual([1, 2])
  expect(refused).toBe(1)
})

it('counts losses that are not finite', async () => {
  const text = [stepRecord({ step: 1, lmLoss: null }), stepRecord({ step: 2 }), evaluationRecord(2, { lmLoss: null })]
  const { steps, evaluations, missingLosses } = await read(
    `${text.map(line).join('')}{"type":"evaluation","step":2,"lmLoss":1e999}\n`,
  )
  expect(missingLosses).toBe(3)
  expect(steps.map(({ lmLoss }) => lmLoss)).toEqual([Number.NaN, 3])
  expect(evaluations.map(({ lmLoss }) => lmLoss)).toEqual([Number.NaN, Number.NaN])
})

it.each([
  [
    '{"type":"step","st',
    /line 2 is not JSON: .*; delete the line if .*: without a step, tokens, FLOPs and seconds are too low from there on/,
  ],
  ['{"type":"step","step":2,"lmLoss":NaN}', /line 2 is not JSON/],
  ['[1, 2]', /line 2 is \[1,2\]; it must be an object/],
  ['{"step":2}', /line 2: type is missing/],
  ['{"type":"step","step":"2"}', /line 2: step is "2"; it must be an integer/],
  ['{"type":"step","step":2,"tokens":5,"seconds":1}', /line 2: flops is missing/],
  ['{"type":"step","step":2,"tokens":-5}', /line 2: tokens is -5; it must be a finite number >= 0/],
])('%s in the middle is named', async (damaged, message) => {
  const record = line(stepRecord({ step: 1 }))
  const path = write(`${record}${damaged}\n${record}`)
  await expect(readMetrics(path, signal)).rejects.toMatchObject({
    code: 'CHECKPOINT_INVALID',
    message: expect.stringMatching(message),
  })
  await expect(readMetrics(path, signal)).rejects.toThrow(path)
})

it('a damaged last line that is complete is named too', async () => {
  await expect(read(`${line(stepRecord({ step: 1 }))}{"type"\n`)).rejects.toThrow(/line 2 is not JSON/)
})

it('stops when it is told to', async () => {
  const aborted = AbortSignal.abort(new Error('enough'))
  await expect(readMetrics(write(line(stepRecord({ step: 1 }))), aborted)).rejects.toMatchObject({
    code: 'ABORTED',
    cause: { message: 'enough' },
  })
})
