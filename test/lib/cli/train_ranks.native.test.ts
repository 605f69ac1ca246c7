// `mor train` as two ranks under each MPI library: what they learn is what one process learns, and all stop when one is told to.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Output } from '../../../lib/cli/output.js'
import { train } from '../../../lib/cli/train.js'
import { isInstalled, type MpiLauncher, mpich, openMpi, startRanks } from '../mpi_launchers.js'
import { command } from './process.js'
import { RecordingStream } from './recording_stream.js'
import { numberWords, writeTinyRun } from './tiny_run.js'

const root = mkdtempSync(join(tmpdir(), 'mor-train-ranks-'))
afterAll(() => rmSync(root, { recursive: true }))
beforeAll(() => {
  const text = numberWords(20_000, (i) => i * i)
  writeTinyRun(root, { max_position_embeddings: 64, router: { type: 'expert_choice' } }, text)
})

const STEPS = 6
const options = (output: string) => ({
  output: join(root, output),
  config: join(root, 'model.json'),
  data: [join(root, 'text.txt')],
  length: 32,
  batchSize: 4,
  gradientAccumulation: 2,
  schedule: 'constant' as const,
  learningRate: 0.01,
  dtype: 'float32' as const,
  seed: 3,
  evalEvery: 3,
  evalBatches: 3,
  device: 'cpu' as const,
  weightHashInterval: 2,
})

function start(launcher: MpiLauncher, output: string, steps: number) {
  const { data, ...single } = options(output)
  const flags = Object.entries({ ...single, data: data[0], steps }).flatMap(([name, value]) => [
    `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
    String(value),
  ])
  return startRanks(launcher, 2, command(['train', ...flags]))
}

/** Launchers write lines of their own. */
const recordsIn = (text: string) =>
  text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
const metrics = (output: string) => recordsIn(readFileSync(join(root, output, 'metrics.jsonl'), 'utf8'))
const lossesOf = (records: { type: string; lmLoss: number }[]) =>
  records.flatMap(({ type, lmLoss }) => (type === 'step' ? [lmLoss] : []))
const positionsOf = (output: string) => JSON.parse(readFileSync(join(root, output, 'run.json'), 'utf8')).positions

/** Of one process, here. */
async function trainAlone(changes: object): Promise<void> {
  const signal = new AbortController().signal
  const stream = new RecordingStream(false)
  await train({ ...options('alone'), threads: 1, ...changes }, new Output(stream), signal)
}

const missing = [openMpi, mpich].filter((launcher) => !isInstalled(launcher))

describe.skipIf(missing.length > 0)('two ranks', { timeout: 180_000 }, () => {
  it('learn what one process learns from the same batch', async () => {
    const { code, stdout, stderr } = await start(openMpi, 'two', STEPS).ended
    expect(code, stderr).toBe(0)
    await trainAlone({ steps: STEPS })
    const [alone, two] = [metrics('alone'), metrics('two')]
    // Only rank 0 writes, and the same on standard output as into the file.
    const told = recordsIn(stdout)
    expect(told.filter(({ type }) => type === 'step' || type === 'evaluation')).toEqual(two)
    expect(two.map(({ type, step }) => `${type} ${step}`)).toEqual(alone.map(({ type, step }) => `${type} ${step}`))
    for (const [i, record] of two.entries()) {
      expect(record.lmLoss).toBeCloseTo(alone[i].lmLoss, 5)
      expect(record.tokens).toBe(alone[i].tokens)
      expect(record.depthHistogram).toEqual(alone[i].depthHistogram)
      if (record.type !== 'step') continue
      expect(record.communicationSeconds).toBeGreaterThan(0)
      expect([0, 1]).toContain(record.slowestRank)
      expect(record.tokensPerSecond).toBeCloseTo(record.tokens / record.seconds, 6)
    }
    expect(positionsOf('two')).toEqual(positionsOf('alone'))
  })

  it('get the same bits by another library, stop when one is told to, and one process goes on', async () => {
    const ranks = start(mpich, 'stopped', 100_000)
    let stopped = false
    ranks.onLine((line) => {
      if (stopped || !line.includes('"step":4,')) return
      stopped = true
      ranks.kill(1, 'SIGTERM')
    })
    const { code, stdout, stderr } = await ranks.ended
    const end = recordsIn(stdout).at(-1)
    expect(end, stdout + stderr).toMatchObject({ type: 'end', interrupted: true })
    expect(code, stdout + stderr).toBe(143)
    const losses = lossesOf(metrics('stopped'))
    expect(losses.length).toBe(end.step)
    const before = lossesOf(metrics('two'))
    const both = Math.min(losses.length, before.length)
    expect(both).toBeGreaterThanOrEqual(4)
    expect(losses.slice(0, both)).toEqual(before.slice(0, both))
    await trainAlone({ output: join(root, 'stopped'), resume: true, steps: end.step + 2 })
    expect(lossesOf(metrics('stopped')).length).toBe(end.step + 2)
    expect(positionsOf('stopped').at(-1).data.index).toBe((end.step + 2) * 8)
  })
})
