// The part `test`: every test program of the device, several at a time, and parity with the CPU device.
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { runCases } from '../lib/cases.js'
import { testProgram } from './gtest.js'
import type { Part } from './part.js'
import { runWorker } from './work.js'

/** Seconds: tests take milliseconds, and a few of them, of whole models, some seconds beside others. */
const testSeconds = 60
const mostAtATime = 8

/** The paths of the test programs; CMake lists them. */
export function testPrograms(programs: string): string[] {
  const list = readFileSync(join(programs, 'gpu_tests.txt'), 'utf8')
  return list.split('\n').flatMap((path) => (path === '' ? [] : [join(programs, path)]))
}

export async function test(part: Part): Promise<void> {
  const { report, deadline, device, programs } = part
  const waiting = testPrograms(programs)
  // Tests compute their expectations on the CPU, so they take turns on the GPU.
  const lane = async (): Promise<void> => {
    for (let path = waiting.shift(); path !== undefined; path = waiting.shift())
      await runCases(testProgram(path, { device, seconds: testSeconds }), deadline, report)
  }
  await Promise.all(Array.from({ length: Math.min(mostAtATime, availableParallelism()) }, lane))
  await runWorker(part, { work: 'parity', name: 'parity with the CPU', seconds: 180, request: {} })
}
