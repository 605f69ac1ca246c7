// Runs the built op tests on this machine's devices, alone and under compute-sanitizer.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../lib/temporary_folder.js'

/** Longest time of a program in milliseconds: one that hangs is ended and counts as failed. */
const timeout = 300_000
/** The same in seconds under compute-sanitizer, which slows down every memory access. */
const sanitizerTimeout = 900

export interface Outcome {
  passed: number
  failed: number
  /** Failures by test or program. */
  failures: Record<string, string>
}

interface GoogleTestReport {
  testsuites: { name: string; testsuite: { name: string; result: string; failures?: { failure: string }[] }[] }[]
}

/** Tests of ops, engine and training steps that run on every device of the machine; `folder` is where CMake put them. */
export function deviceTests(folder: string): string[] {
  return readdirSync(folder).filter((name) => /^(ops_\w+|engine_exactness|train_replay)_test$/.test(name))
}

export function runTests(folder: string, programs: readonly string[]): Outcome {
  const outcome: Outcome = { passed: 0, failed: 0, failures: {} }
  using reports = temporaryFolder('mor-gpu-')
  for (const program of programs) {
    const file = join(reports.path, `${program}.json`)
    const { status, signal } = spawnSync(join(folder, program), [`--gtest_output=json:${file}`, '--gtest_brief=1'], {
      stdio: ['ignore', 'ignore', 'inherit'],
      timeout,
    })
    const before = outcome.failed
    if (existsSync(file)) addReport(outcome, JSON.parse(readFileSync(file, 'utf8')) as GoogleTestReport)
    if (status !== 0 && outcome.failed === before) fail(outcome, program, `ended with ${signal ?? `status ${status}`}`)
  }
  return outcome
}

function addReport(outcome: Outcome, report: GoogleTestReport): void {
  for (const suite of report.testsuites) {
    for (const test of suite.testsuite) {
      if (test.failures) fail(outcome, `${suite.name}.${test.name}`, test.failures[0]!.failure)
      else if (test.result === 'COMPLETED') outcome.passed += 1
    }
  }
}

function fail(outcome: Outcome, name: string, why: string): void {
  outcome.failed += 1
  outcome.failures[name] = why.slice(0, 500)
}

/** The path of compute-sanitizer, or null. */
export function findSanitizer(): string | null {
  const candidates = ['compute-sanitizer', '/usr/local/cuda/bin/compute-sanitizer']
  return candidates.find((path) => spawnSync(path, ['--version']).status === 0) ?? null
}

/** Every program under one tool, on GPUs alone; a program passes if the tool finds nothing. */
export function runSanitizer(
  sanitizer: string,
  tool: 'memcheck' | 'racecheck',
  folder: string,
  programs: readonly string[],
): Outcome {
  const outcome: Outcome = { passed: 0, failed: 0, failures: {} }
  for (const program of programs) {
    // coreutils' timeout ends the whole process group: ending the tool alone would leave the program running.
    const { status, signal, stdout } = spawnSync(
      'timeout',
      [
        ...['--signal', 'KILL', `${sanitizerTimeout}`],
        ...[sanitizer, '--tool', tool, '--error-exitcode', '99', join(folder, program)],
      ],
      { encoding: 'utf8', maxBuffer: 2 ** 28, env: { ...process.env, MOR_TEST_DEVICES: 'cuda' } },
    )
    if (status === 0) outcome.passed += 1
    else {
      const said = stdout.split('\n').filter((line) => line.startsWith('='))
      fail(outcome, program, [`ended with ${signal ?? `status ${status}`}`, ...said.slice(0, 6)].join('\n'))
    }
  }
  return outcome
}
