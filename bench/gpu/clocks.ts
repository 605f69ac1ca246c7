// The clocks, power and temperature of the GPU while a part runs: a figure that was measured hot or throttled shows it.
import { appendFileSync, writeFileSync } from 'node:fs'
import { runLines } from '../lib/process_lines.js'

const query =
  'timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu,memory.used,clocks_event_reasons.active'

const nvidiaSmi = ['nvidia-smi', `--query-gpu=${query}`, '--format=csv', '--loop-ms=500']

/**
 * Runs `body`, and writes the lines of CSV that `watch` prints meanwhile.
 * @returns why there are no lines; undefined: there are
 */
export async function withClocks(
  path: string,
  seconds: number,
  body: () => Promise<void>,
  watch: readonly string[] = nvidiaSmi,
): Promise<string | undefined> {
  const stop = new AbortController()
  writeFileSync(path, '')
  let said = ''
  const watching = runLines(watch, {
    seconds: seconds + 60,
    silence: seconds + 60,
    signal: stop.signal,
    onLine(line, isError) {
      if (isError) said = line
      else appendFileSync(path, `${line}\n`)
      return undefined
    },
  })
  await body().finally(() => stop.abort())
  const ending = await watching
  return ending.killed ? undefined : `clocks were not watched: ${ending.why}${said === '' ? '' : `: ${said}`}`
}
