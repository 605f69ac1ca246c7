// Tests of the files of the parts: whole after every figure, whatever ends the process then.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { withClocks } from '../../../bench/gpu/clocks.js'
import { findingProgram } from '../../../bench/gpu/findings.js'
import { PartReport } from '../../../bench/gpu/part_report.js'
import { Deadline, runCases } from '../../../bench/lib/cases.js'
import { temporaryFolder } from '../../../bench/lib/temporary_folder.js'

vi.setConfig({ testTimeout: 120_000 })

const read = (folder: string) => JSON.parse(readFileSync(join(folder, 'train.json'), 'utf8'))

test('the file holds everything from the first call on', () => {
  using folder = temporaryFolder('mor-part-')
  const report = new PartReport('train', folder.path, { device: 'a GPU', commit: 'abc' })
  expect(read(folder.path)).toMatchObject({ device: 'a GPU', commit: 'abc', figures: {}, finished: false })
  report.figure('step', [3, 1, 2], 'ms')
  expect(read(folder.path).figures).toEqual({ step: { median: 2, min: 1, max: 3, unit: 'ms' } })
  report.ratio('of_peak', 0.5)
  expect(read(folder.path).ratios).toEqual({ of_peak: 0.5 })
  report.fail('another step', 'no memory')
  expect(read(folder.path).failures).toEqual({ 'another step': 'no memory' })
  report.fact('parity', { ok: true })
  report.pass('a case')
  report.log('a line')
  report.finish()
  expect(read(folder.path)).toMatchObject({ parity: { ok: true }, passed: 1, finished: true })
  expect(readFileSync(join(folder.path, 'train.log'), 'utf8')).toBe('a line\n')
  expect(readdirSync(folder.path).sort()).toEqual(['train.json', 'train.log'])
})

test('what a program finds before it is killed stays, and a figure that is none costs itself alone', async () => {
  using folder = temporaryFolder('mor-part-')
  const report = new PartReport('train', folder.path, { device: 'a GPU' })
  const script = `echo '{"begin":"a"}'; echo '{"figure":"x","values":[1],"unit":"s"}'; echo '{"fact":"y","value":2}'
    echo '{"figure":"none","values":[],"unit":"s"}'; echo '{"failure":"z","why":"differs"}'; kill -9 $$`
  const words = (done: readonly string[]) => (done.length > 0 ? null : ['sh', '-c', script])
  const facts = {}
  await runCases(findingProgram(report, { name: 'p', seconds: 60, words }, facts), new Deadline(100), report)
  expect(facts).toEqual({ y: 2 })
  expect(read(folder.path)).toMatchObject({
    y: 2,
    figures: { x: { median: 1 } },
    failures: { a: expect.stringMatching(/^cannot summarize 0 values.*\nsh was ended by SIGKILL$/s), z: 'differs' },
  })
})

test('clocks are watched while the work runs, or it is said why not', async () => {
  using folder = temporaryFolder('mor-part-')
  const path = join(folder.path, 'clocks.csv')
  const lines = () => readFileSync(path, 'utf8').split('\n')
  const watch = ['sh', '-c', 'while true; do echo 1980 MHz; sleep 0.05; done']
  const until = async (what: () => boolean) => {
    while (!what()) await setTimeout(20)
  }
  expect(await withClocks(path, 100, () => until(() => lines().length >= 3), watch)).toBeUndefined()
  expect(lines()[0]).toBe('1980 MHz')
  const ended = join(folder.path, 'ended')
  const script = `echo no driver >&2; touch ${ended}; exit 9`
  const body = async () => {
    await until(() => existsSync(ended))
    await setTimeout(1000)
  }
  const broken = await withClocks(path, 100, body, ['sh', '-c', script])
  expect(broken).toBe('clocks were not watched: sh ended with exit code 9: no driver')
})
