// A program of GoogleTest, whose tests are cases.
import { basename } from 'node:path'
import type { CaseProgram } from '../lib/cases.js'

/** What a message says when the GPU cannot run anything more in this process. */
const lost = /was lost in/
/** What compute-sanitizer says of the kernels that run, besides its name and the number of errors. */
const blame = /^=+ +(?!COMPUTE-SANITIZER|[A-Z]+ SUMMARY)\S/

export interface TestOptions {
  /** The device to test, as `devices()` calls it. */
  device: string
  /** The most that a test may take. */
  seconds: number
  /** The tests to run, as GoogleTest's filter without exclusions; default: all. */
  only?: string
  /** The tests to leave out. */
  without?: readonly string[]
  /** The command that runs the program, e.g. a sanitizer. */
  under?: readonly string[]
}

export function testProgram(path: string, options: TestOptions): CaseProgram {
  const { device, seconds, only = '*', without = [], under = [] } = options
  let [isLost, isBlamed] = [false, false]
  return {
    name: basename(path),
    seconds,
    environment: { MOR_TEST_DEVICES: device },
    words(done) {
      isLost = false
      return [...under, path, '--gtest_color=no', `--gtest_filter=${only}-${[...without, ...done].join(':')}`]
    },
    read(line) {
      isLost ||= lost.test(line)
      isBlamed ||= blame.test(line)
      // E.g. "[  FAILED  ] Ops/Linear.Forward/3, where GetParam() = cpu (12 ms)"; a summary at the end has no times.
      const found = /^\[ +(RUN|OK|FAILED|SKIPPED) +\] ([^\s,]+)(.* \(\d+ ms\))?/.exec(line)
      if (found === null) return
      const [, what, name, time] = found as unknown as [string, string, string, string?]
      if (what === 'RUN') {
        isBlamed = false
        return { begin: name }
      }
      if (time === undefined) return
      return what === 'FAILED' || isBlamed ? { end: name, error: '', lost: isLost } : { end: name }
    },
  }
}
