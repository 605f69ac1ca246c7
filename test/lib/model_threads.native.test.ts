// How many threads compute and how they yield to others, in a process of its own. The addon must have been built.
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { expect, it } from 'vitest'
import { cpuLimit } from '../../lib/cli/machine.js'
import { devices } from '../../lib/devices.js'
import { Model } from '../../lib/model.js'

/** Those of the threads of this process, in any order; fields of `stat` are counted from the name, which may hold spaces. */
function niceValues(): number[] {
  return readdirSync('/proc/self/task').map((task) => {
    const stat = readFileSync(`/proc/self/task/${task}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16])
  })
}

const config = {
  vocab_size: 48,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 4,
  num_attention_heads: 2,
  max_position_embeddings: 128,
}

it('the threads that compute have the nice value of the option', async () => {
  const own = niceValues()[0]!
  const value = own + 4
  expect(niceValues().filter((nice) => nice === value)).toHaveLength(0)
  await using model = await Model.create(config, { device: 'cpu', threads: 2, nice: value })
  await model.forward([Array.from({ length: 100 }, (_, i) => i % 48)])
  expect(niceValues().filter((nice) => nice === value)).toHaveLength(2) // that of the model and one that helps
  await using same = await Model.create(config, { device: 'cpu', threads: 1, nice: 0 })
  expect(niceValues().filter((nice) => nice < own)).toHaveLength(0)
  expect(same.device).toBe('cpu')
})

it.each([-1, 20, 1.5, '5'])('refuses the nice value %j', async (nice) => {
  await expect(Model.create(config, { device: 'cpu', nice: nice as number })).rejects.toThrow(/nice is/)
})

it('the CPU has no more threads and memory than the control group grants', () => {
  const [cpu] = devices()
  const granted = cpuLimit(readFileSync('/proc/self/cgroup', 'utf8')) ?? Number.POSITIVE_INFINITY
  expect(cpu!.threads).toBe(Math.max(1, Math.min(availableParallelism(), Math.floor(granted))))
  const limit = process.constrainedMemory()
  expect(cpu!.memoryBytes).toBeLessThanOrEqual(totalmem())
  if (limit > 0) expect(cpu!.memoryBytes).toBeLessThanOrEqual(limit)
})
