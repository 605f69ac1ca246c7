// What loading a checkpoint takes at its peak: the weights and at most one tensor more, read from the memory figures that the
// kernel keeps of a process of its own. Pages of the file that are mapped count as well.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { Model } from '../../lib/model.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const folder = mkdtempSync(join(tmpdir(), 'mor-load-memory-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Weights of 42 million elements in tensors of at most 4 million. */
const config = {
  vocab_size: 8192,
  hidden_size: 512,
  intermediate_size: 2048,
  num_hidden_layers: 9,
  num_attention_heads: 8,
}
const LARGEST = 8192 * 512

beforeAll(async () => {
  await using model = await Model.create(config, { device: 'cpu', dtype: 'float32' })
  await model.save(folder)
})

const program = `
  const { readFileSync } = require('node:fs')
  const { Model } = require(${JSON.stringify(resolve('lib/model.ts'))})
  const kilobytes = (key) => Number.parseInt(readFileSync('/proc/self/status', 'utf8').split(key + ':')[1])
  const options = { device: 'cpu', dtype: process.argv[1] }
  ;(async () => {
    // The first model brings up the addon and its threads.
    await (await Model.create({ ...${JSON.stringify(config)}, vocab_size: 8, num_hidden_layers: 1 }, options)).dispose()
    const before = kilobytes('VmRSS')
    const model = await Model.load(${JSON.stringify(folder)}, options)
    process.stdout.write([1024 * (kilobytes('VmHWM') - before), model.memory().parameters].join(' '))
  })()
`

it.each(['float32', 'bfloat16'])('%s: the weights and one tensor of the file', async (dtype) => {
  const args = ['--import', 'tsx', '--eval', program, dtype]
  const { stdout } = await promisify(execFile)(process.execPath, args)
  const [peak, weights] = stdout.split(' ').map(Number) as [number, number]
  expect(weights).toBeGreaterThan(80e6)
  expect(peak).toBeGreaterThan(0.9 * weights)
  expect(peak).toBeLessThan(weights + 4 * LARGEST + 10e6)
})
