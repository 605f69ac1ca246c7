// Whether a run of a study has its model: by the checkpoint, since its record is written before.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { folderOf, hasModel } from '../../../bench/study/run.js'
import type { StudyRun } from '../../../bench/study/study.js'

const run = { name: 'vanilla', seed: 1, steps: 10, learningRate: 1, start: { config: {} } } as unknown as StudyRun

it('a run that was killed in its last save, or in its only one, has none', async () => {
  const places = { work: mkdtempSync(join(tmpdir(), 'mor-study-')), results: '' }
  expect(await hasModel(run, places)).toBe(false)
  const folder = folderOf(run, places)
  mkdirSync(join(folder, 'checkpoint'), { recursive: true })
  const record = { settings: {}, positions: [{ step: 10, data: {} }] }
  writeFileSync(join(folder, 'run.json'), JSON.stringify(record))
  expect(await hasModel(run, places)).toBe(false)
})
