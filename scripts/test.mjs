// Runs every test, C++ under the sanitizers and TypeScript on the built addon, and ends with one line of totals.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const build = join(root, 'build', 'sanitize')
const reports = join(build, 'reports')
const total = { passed: 0, failed: 0, skipped: 0 }

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  if (error) console.error(`${command} could not be run: ${error.message}`)
  return status === 0
}

function runOrStop(command, args) {
  if (!run(command, args)) {
    console.error(`\n${command} ${args.join(' ')} failed`)
    process.exit(1)
  }
}

/** Runs ctest with as many programs at a time as there are processors; each writes a report of its tests. */
function cpp() {
  runOrStop('cmake', ['--preset', 'sanitize', '--log-level=WARNING'])
  runOrStop('cmake', ['--build', '--preset', 'sanitize', '--parallel'])
  rmSync(reports, { recursive: true, force: true })
  mkdirSync(reports, { recursive: true })
  const junit = join(reports, 'ctest.xml')
  const ok = run('ctest', ['--preset', 'sanitize', '--parallel', `${availableParallelism()}`, '--output-junit', junit], {
    env: {
      ...process.env,
      GTEST_OUTPUT: `json:${reports}/`,
      UBSAN_OPTIONS: 'print_stacktrace=1',
      ASAN_OPTIONS: 'detect_leaks=1',
    },
  })
  const programs = existsSync(junit) ? readFileSync(junit, 'utf8').matchAll(/<testcase name="(\w+)".*status="(\w+)"/g) : []
  for (const [, program, status] of programs) {
    const { passed, failed, skipped } = countTests(join(reports, `${program}.json`))
    total.passed += passed
    total.failed += failed
    total.skipped += skipped
    // A sanitizer's finding, a crash or a leak fails the program and not a test; a program that runs no test fails too.
    if (failed === 0 && (status !== 'run' || passed + skipped === 0)) total.failed += 1
  }
  if (total.failed === 0 && (!ok || total.passed === 0)) total.failed += 1
}

/** The report of one program. */
function countTests(report) {
  const counts = { passed: 0, failed: 0, skipped: 0 }
  if (!existsSync(report)) return counts
  for (const suite of JSON.parse(readFileSync(report, 'utf8')).testsuites) {
    for (const test of suite.testsuite) {
      if (test.result === 'SKIPPED' || test.status === 'NOTRUN') counts.skipped += 1
      else if (test.failures) counts.failed += 1
      else counts.passed += 1
    }
  }
  return counts
}

function typescript() {
  const report = join(reports, 'vitest.json')
  const ok = run('npx', ['vitest', 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`])
  const result = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : {}
  total.passed += result.numPassedTests ?? 0
  total.skipped += (result.numPendingTests ?? 0) + (result.numTodoTests ?? 0)
  total.failed += Math.max(result.numFailedTests ?? 0, ok ? 0 : 1)
}

cpp()
typescript()
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
process.exit(total.failed === 0 ? 0 : 1)
