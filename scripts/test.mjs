// Runs every test, C++ under the sanitizers and TypeScript on the built addon, and ends with one line that sums them.
// Must not know what any test checks.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const build = join(root, 'build', 'sanitize')
const reports = join(build, 'reports')
const total = { passed: 0, failed: 0, skipped: 0 }

function run(command, args, options = {}) {
  return spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options }).status === 0
}

function runOrStop(command, args) {
  if (!run(command, args)) {
    console.error(`\n${command} ${args.join(' ')} failed`)
    process.exit(1)
  }
}

function cpp() {
  runOrStop('cmake', ['--preset', 'sanitize', '--log-level=WARNING'])
  runOrStop('cmake', ['--build', '--preset', 'sanitize', '--parallel'])
  rmSync(reports, { recursive: true, force: true })
  mkdirSync(reports, { recursive: true })
  const folder = join(build, 'test')
  const programs = readdirSync(folder).filter((name) => name.endsWith('_test') && existsSync(join(folder, name)))
  for (const program of programs.sort()) {
    const report = join(reports, `${program}.json`)
    const began = Date.now()
    const ok = run(join(folder, program), [`--gtest_output=json:${report}`, '--gtest_brief=1'], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, UBSAN_OPTIONS: 'print_stacktrace=1', ASAN_OPTIONS: 'detect_leaks=1' },
    })
    let passed = 0
    let failed = 0
    if (existsSync(report)) {
      for (const suite of JSON.parse(readFileSync(report, 'utf8')).testsuites) {
        for (const test of suite.testsuite) {
          if (test.result === 'SKIPPED' || test.status === 'NOTRUN') total.skipped += 1
          else if (test.failures) failed += 1
          else passed += 1
          for (const failure of test.failures ?? []) console.error(`${suite.name}.${test.name}: ${failure.failure}`)
        }
      }
    }
    if (!ok && failed === 0) failed = 1 // a sanitizer's finding, a crash or a leak ends the program, not a test
    total.passed += passed
    total.failed += failed
    console.log(`${ok ? 'ok  ' : 'FAIL'} ${program}: ${passed} passed, ${failed} failed (${((Date.now() - began) / 1000).toFixed(1)} s)`)
  }
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
