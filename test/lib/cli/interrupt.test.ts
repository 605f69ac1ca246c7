// Signals: the first one stops a command, and only one that comes later than a launcher's copy of it ends the process.
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
] as const)('%s and then %s within a second are one', async (first, second, message) => {
  const before = listeners()
  await withInterrupt(async (signal) => {
    expect(listeners()).toEqual(more(before))
    process.emit(first)
    expect(signal.aborted).toBe(true)
    vi.advanceTimersByTime(999)
    process.emit(second)
    expect(listeners()).toEqual(more(before))
    expect(signal.reason).toMatchObject({ message })
    vi.advanceTimersByTime(1)
    expect(listeners(), 'the next one ends the process').toEqual(before)
  })
})

it('a command that has ended leaves nothing behind', async () => {
  const before = listeners()
  await withInterrupt(async () => {
    process.emit('SIGINT')
  })
  expect(vi.getTimerCount()).toBe(0)
  expect(listeners()).toEqual(before)
})
