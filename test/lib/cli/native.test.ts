// The commands as processes on the real addon: a run learns, stops and resumes bit for bit, and writes the same text for the same seed.
import type { ChildProcess } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadNative } from '../../../lib/native_loader.js'
import { type Ended, mor, morProcess } from './process.js'
import { writeTinyRun } from './tiny_run.js'

const hasAddon = (() => {
  try {
    loadNative()
    return true
  } catch (error) {
    process.stderr.write(`SKIPPED: the commands on the real addon: ${(error as Error).message}\n`)
    return false
  }
})()

const STEPS = 60
let folder: string
let whole: Ended

function trainArguments(output: string): string[] {
  const options = { config: 'model.json', data: 'text.txt', output }
  const paths = Object.entries(options).flatMap(([name, file]) => [`--${name}`, join(folder, file)])
  const course = [
    '--length',
    '32',
    '--batch-size',
    '4',
    '--learning-rate',
    '0.01',
    '--seed',
    '3',
    '--device',
    'cpu',
    '--threads',
    '1',
  ]
  const times = ['--steps', String(STEPS), '--eval-every', '20', '--save-every', '1000', '--validation-fraction', '0.1']
  return ['train', ...paths, ...course, ...times]
}

const records = ({ stdout }: Ended) =>
  stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
const weights = (run: string) => readFileSync(join(folder, run, 'checkpoint', 'model.safetensors'))

/** The bytes of the tensors without the header, which holds an id that is new in every save. */
function tensors(file: Buffer): string {
  return file.subarray(8 + Number(file.readBigUInt64LE(0))).toString('base64')
}

describe.skipIf(!hasAddon)('the commands on the real addon', { timeout: 120000 }, () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'mor-native-'))
    writeTinyRun(folder, { router: { type: 'expert_choice' } })
    whole = await mor(...trainArguments('whole'))
  }, 120000)

  it('train learns, and tells so in JSON lines', () => {
    expect(whole).toMatchObject({ code: 0, stderr: '' })
    const steps = records(whole).filter(({ type }) => type === 'step')
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1))
    expect(steps[0].lmLoss).toBeGreaterThan(5)
    expect(steps.at(-1).lmLoss).toBeLessThan(2.5)
    expect(steps[0].depthHistogram.length).toBe(3)
    const evaluations = records(whole).filter(({ type }) => type === 'evaluation')
    expect(evaluations.map(({ step }) => step)).toEqual([20, 40, 60])
    const { lmLoss, bitsPerByte } = evaluations.at(-1)
    expect(bitsPerByte).toBeGreaterThan(lmLoss / Math.LN2)
    expect(bitsPerByte).toBeLessThan((lmLoss / Math.LN2) * 1.001)
    const metrics = readFileSync(join(folder, 'whole', 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
    expect(metrics.map((line) => JSON.parse(line).type).filter((type) => type === 'step').length).toBe(STEPS)
  })

  it('train stopped by SIGINT saves, and resumed ends bit for bit the same', async () => {
    const stopped = await morProcess(trainArguments('stopped'), (child) => {
      child.stdout!.on('data', (text: string) => text.includes('"step":10,') && child.kill('SIGINT'))
    })
    expect(stopped).toMatchObject({ code: 130, stderr: '' })
    const end = records(stopped).at(-1)
    expect(end).toMatchObject({ type: 'end', interrupted: true })
    expect(end.step).toBeGreaterThanOrEqual(10)
    expect(end.step).toBeLessThan(STEPS)
    const resumed = await mor(
      'train',
      '--resume',
      '--output',
      join(folder, 'stopped'),
      '--device',
      'cpu',
      '--threads',
      '1',
    )
    expect(resumed).toMatchObject({ code: 0, stderr: '' })
    expect(records(resumed)[0]).toMatchObject({ type: 'step', step: end.step + 1 })
    expect(tensors(weights('stopped'))).toBe(tensors(weights('whole')))
  })

  it.each<[string, (child: ChildProcess) => unknown, number, RegExp]>([
    ['SIGTERM', (child) => child.kill('SIGTERM'), 143, /^$/],
    ['SIGUSR2, and another one', (child) => child.kill('SIGUSR2') && child.kill('SIGUSR2'), 140, /^$/],
    ['SIGHUP, and another one', (child) => child.kill('SIGHUP') && child.kill('SIGHUP'), 129, /^$/],
    [
      'a closed standard output',
      (child) => child.stdout!.destroy(),
      141,
      /^error \[IO_ERROR\] nobody reads standard output any more: stopped and saved at step \d+; mor train --resume [^\n]*\n$/,
    ],
    [
      'both outputs closed',
      (child) => {
        child.stdout!.destroy()
        child.stderr!.destroy()
      },
      141,
      /^$/,
    ],
  ])('train stopped by %s saves, and resumed ends bit for bit the same', async (name, stop, code, stderr) => {
    const output = name.replaceAll(' ', '_')
    const stopped = await morProcess(trainArguments(output), (child) => {
      let seen = ''
      const onData = (text: string) => {
        seen += text
        if (!seen.includes('"step":5,')) return
        child.stdout!.off('data', onData)
        stop(child)
      }
      child.stdout!.on('data', onData)
    })
    expect(stopped).toMatchObject({ code, stderr: expect.stringMatching(stderr) })
    const { step } = JSON.parse(readFileSync(join(folder, output, 'checkpoint', 'trainer.json'), 'utf8'))
    expect(step).toBeGreaterThanOrEqual(5)
    expect(step).toBeLessThan(STEPS)
    const resume = ['train', '--resume', '--output', join(folder, output), '--device', 'cpu', '--threads', '1']
    expect(await mor(...resume)).toMatchObject({ code: 0, stderr: '' })
    expect(tensors(weights(output))).toBe(tensors(weights('whole')))
  })

  it('train goes on with more steps than a run had, and refuses what cannot change', async () => {
    cpSync(join(folder, 'whole'), join(folder, 'longer'), { recursive: true })
    const resume = ['train', '--resume', '--output', join(folder, 'longer'), '--device', 'cpu', '--threads', '1']
    const refused = await mor(...resume, '--batch-size', '8')
    expect(refused).toMatchObject({ code: 1, stdout: '' })
    expect(refused.stderr).toMatch(/^error \[INVALID_ARGUMENT\] --batch-size is 8, but the run began with 4[^\n]*\n$/)
    const more = await mor(...resume, '--steps', String(STEPS + 10), '--batch-size', '4')
    expect(more).toMatchObject({ code: 0, stderr: '' })
    const steps = records(more).filter(({ type }) => type === 'step')
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 10 }, (_, i) => STEPS + 1 + i))
    expect(steps[0].learningRate).toBeGreaterThan(0)
    expect(records(await mor(...resume)).at(-1)).toMatchObject({ type: 'end', step: STEPS + 10, interrupted: false })
  })

  it('train on a closed standard output from the start tells why it ends', async () => {
    const { code, stderr } = await morProcess(trainArguments('unread'), (child) => child.stdout!.destroy())
    expect(code).toBe(141)
    expect(stderr).toMatch(/^error \[\w+\] [^\n]*nobody reads standard output any more[^\n]*\n$/)
  })

  it('generate is repeatable, shows depths, and keeps to --max-recursions', async () => {
    const generate = (...more: string[]) =>
      mor(
        'generate',
        join(folder, 'whole', 'checkpoint'),
        '--prompt',
        'one two',
        '--max-tokens',
        '40',
        '--seed',
        '5',
        '--device',
        'cpu',
        ...more,
      )
    const [first, second, shallow] = [await generate(), await generate(), await generate('--max-recursions', '1')]
    expect(first).toMatchObject({ code: 0, stderr: '' })
    const [one, two] = [first, second].map((ended) => records(ended).at(-1))
    expect(one).toMatchObject({ type: 'generation', finishReason: 'length' })
    expect({ ...two, seconds: one.seconds }).toEqual(one)
    expect(one.depths.length).toBe(40)
    for (const depth of one.depths) expect([1, 2, 3]).toContain(depth)
    expect(records(shallow).at(-1).depths).toEqual(new Array(40).fill(1))
  })

  it('generate reads its prompt from standard input', async () => {
    const checkpoint = join(folder, 'whole', 'checkpoint')
    const greedy = ['generate', checkpoint, '--max-tokens', '8', '--temperature', '0', '--device', 'cpu', '--prompt']
    const [given, read] = await Promise.all([
      mor(...greedy, 'one two three'),
      morProcess([...greedy, '-'], (child) => child.stdin!.end('one two three\n')),
    ])
    const [one, two] = [given, read].map((ended) => records(ended).at(-1))
    expect(one).toMatchObject({ type: 'generation', prompt: 'one two three' })
    expect({ ...two, seconds: one.seconds }).toEqual(one)
  })

  it('a checkpoint cut short is refused with its reason', async () => {
    const broken = join(folder, 'broken')
    cpSync(join(folder, 'whole', 'checkpoint'), broken, { recursive: true })
    truncateSync(join(broken, 'model.safetensors'), 5000)
    const { code, stderr } = await mor('generate', broken)
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('[CHECKPOINT_INVALID]') })
  })
})
