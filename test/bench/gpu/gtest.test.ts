// Tests of how test programs are run: by scripts that print what GoogleTest prints.
import { expect, test, vi } from 'vitest'
import { testProgram } from '../../../bench/gpu/gtest.js'
import { Deadline, runCases } from '../../../bench/lib/cases.js'

vi.setConfig({ testTimeout: 120_000 })

/** Tests of all fates; those that the filter names are left out. */
const script = `
  for word in "$@"; do case $word in --gtest_filter=*) filter=$word;; esac; done
  echo "========= COMPUTE-SANITIZER"
  echo "[==========] Running 6 tests from 1 test suite."
  each() {
    case $filter in *"-$1:"*|*"-$1"|*":$1:"*|*":$1") return;; esac
    echo "[ RUN      ] $1"
    case $1 in
      *Fails/0) echo "linear_test.cpp:12: Failure"; echo "Expected 1 on $MOR_TEST_DEVICES"
        echo "[  FAILED  ] $1, where GetParam() = cuda:0 (3 ms)"; status=1;;
      *Crashes) echo "illegal instruction" >&2; kill -s ILL $$;;
      *Loses) echo "cuda:0 was lost in launch"; echo "[  FAILED  ] $1 (1 ms)"; sleep 1000;;
      *Blamed) echo "========= Invalid __global__ read of size 4 bytes"; echo "[       OK ] $1 (0 ms)"; status=99;;
      *) echo "[       OK ] $1 (0 ms)";;
    esac
  }
  each Linear.Blamed
  each Ops/Linear.Passes/1
  each Ops/Linear.Fails/0
  each Linear.Loses
  each Linear.Crashes
  each Linear.Last
  echo "========= ERROR SUMMARY: 1 error"
  echo "[  FAILED  ] Ops/Linear.Fails/0, where GetParam() = cuda:0"
  exit $status`

test('every test is a case of its own, whatever happens to the process', async () => {
  const passed: string[] = []
  const failures: Record<string, string> = {}
  const program = testProgram('/build/ops_linear_test', {
    device: 'cuda:0',
    seconds: 60,
    without: ['*OnTheCpu*'],
    under: ['sh', '-c', script],
  })
  expect(program.words(['A.B'])!.at(-1)).toBe('--gtest_filter=*-*OnTheCpu*:A.B')
  await runCases(program, new Deadline(100), {
    pass: (name) => passed.push(name),
    fail: (name, why) => {
      failures[name] = why
    },
    log() {},
  })
  expect(passed).toEqual(['Ops/Linear.Passes/1', 'Linear.Last'])
  expect(failures).toEqual({
    'Linear.Blamed': '========= Invalid __global__ read of size 4 bytes',
    'Ops/Linear.Fails/0': 'linear_test.cpp:12: Failure\nExpected 1 on cuda:0',
    'Linear.Loses': 'cuda:0 was lost in launch',
    'Linear.Crashes': 'sh was ended by SIGILL\nillegal instruction',
  })
})
