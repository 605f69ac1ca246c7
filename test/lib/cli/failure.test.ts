// Failures: a message and its code, the stack only on demand, exit code 130 if the user stopped the command.
import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { describeFailure, exitCodeOf, Interruption } from '../../../lib/cli/failure.js'
import { MorError } from '../../../lib/errors.js'

describe('failures', () => {
  const error = new MorError('INVALID_ARGUMENT', 'length is 0: it must be positive')

  it('say what was wrong and no more', () => {
    expect(describeFailure(error, false)).toMatch(
      /^\S*error\S* \S*\[INVALID_ARGUMENT\]\S* length is 0: it must be positive\n$/,
    )
  })

  it('show the stack of the cause with --verbose', () => {
    expect(describeFailure(error, true)).toContain('failure.test.ts')
    const wrapped = new MorError('IO_ERROR', 'cannot', { cause: new RangeError('root') })
    expect(describeFailure(wrapped, true)).toContain('RangeError: root')
  })

  it('of the program itself ask for --verbose', () => {
    expect(describeFailure(new TypeError('x is undefined'), false)).toMatch(/\[INTERNAL\].*x is undefined\n.*--verbose/)
  })

  it('exit with 1, with 130 when aborted, or with the code of what interrupted them', () => {
    expect(exitCodeOf(error)).toBe(1)
    expect(exitCodeOf('text')).toBe(1)
    expect(exitCodeOf(new MorError('ABORTED', 'stopped'))).toBe(130)
    const cause = new Interruption('stopped by SIGTERM', 143)
    expect(exitCodeOf(cause)).toBe(143)
    expect(exitCodeOf(new MorError('ABORTED', 'loading was aborted', { cause }))).toBe(143)
    expect(exitCodeOf(new MorError('IO_ERROR', 'the run is saved', { cause }))).toBe(143)
    expect(describeFailure(new MorError('ABORTED', 'loading was aborted', { cause }), false)).toMatch(
      /loading was aborted: stopped by SIGTERM\n$/,
    )
  })

  it('find the interruption behind an error that Node.js makes of it', async () => {
    const abort = new AbortController()
    abort.abort(new Interruption('nobody reads standard output any more', 141))
    const error = await readFile(new URL(import.meta.url), { signal: abort.signal }).catch((reason: unknown) => reason)
    expect(error).toMatchObject({ name: 'AbortError' })
    expect(exitCodeOf(error)).toBe(141)
    expect(describeFailure(error, false)).toMatch(/: nobody reads standard output any more\n$/)
  })
})
