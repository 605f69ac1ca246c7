// Folders of runs: their names, their results, and what is no run.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { readRuns } from '../../../lib/report/run.js'
import { stepRecord, writeRun } from './run_files.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mor-report-run-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const { signal } = new AbortController()
const lines = [stepRecord({ step: 1 })]

it('names runs after their folders, or after their paths where folders have one name', async () => {
  const paths = ['a/run', 'b/run', 'c/other'].map((path) => writeRun(join(folder, path), lines))
  const runs = await readRuns([`${paths[0]}/`, paths[1]!, paths[2]!], signal)
  expect(runs.map(({ name }) => name)).toEqual([`${paths[0]}/`, paths[1], 'other'])
  expect(runs.map(({ checkpoint }) => checkpoint)).toEqual([null, null, null])
})

it('has no checkpoint of a run whose process was killed in its first save', async () => {
  const path = writeRun(join(folder, 'killed'), lines)
  mkdirSync(join(path, 'checkpoint/.saving-1-2'), { recursive: true })
  const [run] = await readRuns([path], signal)
  expect(run!.checkpoint).toBeNull()
})

it('reads results, of which each may be left out', async () => {
  const results = { servedTokensPerSecond: 1000, heldOut: { lossTopK: 3.2, bitsPerByte: 1.3 }, machine: 'a' }
  const [run, none] = await readRuns(
    [writeRun(join(folder, 'measured'), lines, results), writeRun(join(folder, 'not'), lines)],
    signal,
  )
  expect(run!.results).toEqual({ servedTokensPerSecond: 1000, lossTopK: 3.2, lossThreshold: null, bitsPerByte: 1.3 })
  expect(none!.results).toEqual({ servedTokensPerSecond: null, lossTopK: null, lossThreshold: null, bitsPerByte: null })
})

it.each([
  [{ servedTokensPerSecond: 'fast' }, /results.json: servedTokensPerSecond is "fast"; it must be a finite number > 0/],
  [{ servedTokensPerSecond: 0 }, /servedTokensPerSecond is 0/],
  [{ heldOut: 3 }, /results.json: heldOut is 3; it must be an object/],
  [{ heldOut: { bitsPerByte: -1 } }, /results.json: heldOut: bitsPerByte is -1/],
])('refuses the results %j', async (results, message) => {
  const path = writeRun(join(folder, 'wrong'), lines, results)
  await expect(readRuns([path], signal)).rejects.toMatchObject({
    code: 'CHECKPOINT_INVALID',
    message: expect.stringMatching(message),
  })
})

it('refuses what is no run', async () => {
  const path = join(folder, 'empty')
  mkdirSync(path)
  writeFileSync(join(folder, 'file'), '')
  for (const [folders, code, message] of [
    [[join(folder, 'missing')], 'CHECKPOINT_MISSING', /there is no run at .*missing: no such folder/],
    [[join(folder, 'file')], 'CHECKPOINT_MISSING', /file is a file: give the folder of a run/],
    [[path], 'CHECKPOINT_MISSING', /empty is no run, since it holds no metrics.jsonl/],
    [[writeRun(join(folder, 'new'), [])], 'INVALID_ARGUMENT', /metrics.jsonl records no training step yet/],
    [[join(folder, 'a/run'), join(folder, 'a/../a/run')], 'INVALID_ARGUMENT', /is given twice: give it once/],
  ] as const) {
    await expect(readRuns(folders, signal)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  }
})
