// Tests of how the demo chooses the size of its model and its steps by the speed of the machine.
import { describe, expect, test } from 'vitest'
import { choosePlan, type DemoSize, demoSizes } from '../../../lib/cli/demo_plan.js'
import { resolveConfig } from '../../../lib/config.js'
import { flopsPerToken } from '../../../lib/model_size.js'

/** FLOPs of a step, by which a machine of so many FLOP/s is imitated. */
function stepFlops({ config, length, batchSize }: DemoSize): number {
  return batchSize * length * flopsPerToken(resolveConfig(config), length).training
}

function planOf(gigaflops: number) {
  const asked: DemoSize[] = []
  const plan = choosePlan(async (size) => {
    asked.push(size)
    return stepFlops(size) / (gigaflops * 1e9)
  })
  return plan.then((found) => ({ ...found, asked }))
}

describe('choosePlan', () => {
  test('takes the largest size on a fast machine, and times no other', async () => {
    const { size, steps, asked } = await planOf(2000)
    expect(size).toBe(demoSizes[0])
    expect(asked).toEqual([demoSizes[0]])
    expect(steps).toBeGreaterThanOrEqual(size.leastSteps)
  })

  test('takes a smaller size on two AVX2 cores, with more steps', async () => {
    const { size, steps } = await planOf(60)
    expect(size).not.toBe(demoSizes[0])
    expect(steps).toBeGreaterThan(3600)
  })

  test('takes the smallest size on the slowest machine, and at least one step', async () => {
    const { size, steps, asked } = await planOf(0.001)
    expect(size).toBe(demoSizes.at(-1))
    expect(asked).toEqual(demoSizes)
    expect(steps).toBe(1)
  })

  test('trains for less than three and a half minutes, and reads the book no more often than ten times', async () => {
    for (const gigaflops of [20, 60, 100, 400, 1000, 100_000]) {
      const { size, steps, stepSeconds } = await planOf(gigaflops)
      expect(steps * stepSeconds).toBeLessThan(210)
      expect(steps * size.batchSize * size.length).toBeLessThanOrEqual(12.3e6)
    }
  })

  test('a faster machine gets no fewer FLOPs of training', async () => {
    let before = 0
    for (const gigaflops of [1, 3, 10, 30, 60, 100, 200, 400, 800, 1600, 3200]) {
      const { size, steps } = await planOf(gigaflops)
      expect(steps * stepFlops(size)).toBeGreaterThanOrEqual(before)
      before = steps * stepFlops(size)
    }
  })

  test('refuses an empty list', async () => {
    await expect(choosePlan(async () => 1, [])).rejects.toThrow(RangeError)
  })
})

test('sizes go from large to small, and each has whole heads and three recursions', () => {
  const flops = demoSizes.map(stepFlops)
  expect(flops).toEqual([...flops].sort((a, b) => b - a))
  for (const { config } of demoSizes) {
    const { head_dim, num_recursions } = resolveConfig(config)
    expect([head_dim, num_recursions]).toEqual([64, 3])
  }
})
