// Signals: the first one stops a command, and the next one ends the process, unless it is a copy of the first.
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { withInterrupt } from '../../../lib/cli/interrupt.js'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** Of SIGINT and SIGTERM: as long as there is one, a signal does not end the process. */
const listeners = () => [process.listenerCount('SIGINT'), process.listenerCount('SIGTERM')]
const more = (counts: number[]) => counts.map((count) => count + 1)

it.each([
  ['SIGINT', 'SIGINT', 'stopped by SIGINT'],
  ['SIGTERM', 'SIGTERM', 'stopped by SIGTERM'],
  ['SIGINT', 'SIGTERM', 'stopped by SIGINT'],
] as const)('%s and then %s within a second are one for a rank', async (first, second, message) => {
  const before = listeners()
  const run = async (signal: AbortSignal) => {
    expect(listeners()).toEqual(more(before))
    process.emit(first)
    expect(signal.aborted).toBe(true)
    vi.advanceTimersByTime(999)
    process.emit(second)
    expect(listeners()).toEqual(more(before))
    expect(signal.reason).toMatchObject({ message })
    vi.advanceTimersByTime(1)
    expect(listeners(), 'the next one ends the process').toEqual(before)
  }
  await withInterrupt(run, { isRank: true })
})

it('elsewhere a second signal ends the process, unless it is the copy that npx sends', async () => {
  const before = listeners()
  await withInterrupt(async (signal) => {
    process.emit('SIGINT')
    expect(signal.aborted).toBe(true)
    vi.advanceTimersByTime(199)
    process.emit('SIGINT')
    expect(listeners()).toEqual(more(before))
    vi.advanceTimersByTime(1)
    expect(listeners(), 'the next one ends the process').toEqual(before)
  })
})

it('a command that has ended leaves nothing behind', async () => {
  const before = listeners()
  const run = async () => {
    process.emit('SIGINT')
  }
  await withInterrupt(run, { isRank: true })
  expect(vi.getTimerCount()).toBe(0)
  expect(listeners()).toEqual(before)
})
