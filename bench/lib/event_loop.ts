// Measures how late Node's event loop is while something else works.
import { monitorEventLoopDelay } from 'node:perf_hooks'

const resolution = 10 // milliseconds between the monitor's timers, few enough to take no time themselves; its histogram holds their distances

/** Runs `body`; resolves to its result and the 99th percentile of the event loop's lateness meanwhile, in milliseconds. */
export async function withEventLoopDelay<Result>(
  body: () => Promise<Result>,
): Promise<{ result: Result; eventLoopDelay: number }> {
  const monitor = monitorEventLoopDelay({ resolution })
  monitor.enable()
  const result = await body()
  monitor.disable()
  return { result, eventLoopDelay: Math.max(0, monitor.percentile(99) / 1e6 - resolution) }
}
