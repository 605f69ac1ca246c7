// Measures what a piece of work takes of memory at its peak, in a process of its own: from the figures that the kernel keeps.
// Pages of files that are mapped count as well.
import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { promisify } from 'node:util'

/**
 * The bytes by which resident memory rises above what it was before, and the number that `work` returns.
 * @param work an async function's body, with `lib` (the package's names) and `argument`
 */
export async function peakMemory(work: string, argument = ''): Promise<{ peak: number; value: number }> {
  const program = `
  const { readFileSync } = require('node:fs')
  const lib = require(${JSON.stringify(resolve('lib/index.ts'))})
  const argument = process.argv[1]
  const kilobytes = (key) => Number.parseInt(readFileSync('/proc/self/status', 'utf8').split(key + ':')[1])
  ;(async () => {
    // The first model brings up the addon and its threads.
    const tiny = { vocab_size: 8, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 1 }
    await (await lib.Model.create(tiny, { device: 'cpu' })).dispose()
    const before = kilobytes('VmRSS')
    const value = await (async () => {${work}})()
    process.stdout.write([1024 * (kilobytes('VmHWM') - before), value].join(' '))
  })()`
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--eval', program, argument])
  const [peak, value] = stdout.split(' ').map(Number) as [number, number]
  return { peak, value }
}
