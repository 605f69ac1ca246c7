// The time of threads that benches report.
import { expect, it } from 'vitest'
import { threadIds, threadTime } from '../../bench/lib/thread_time.js'

it('counts the seconds in which a thread runs', () => {
  const [oldest] = threadIds()
  expect(oldest).toBe(process.pid)
  const before = threadTime(oldest!)
  const used = process.cpuUsage()
  while (process.cpuUsage(used).user < 50_000); // microseconds
  const { running, waiting } = threadTime(oldest!)
  expect(running - before.running).toBeGreaterThan(0.02)
  expect(waiting).toBeGreaterThanOrEqual(before.waiting)
})
