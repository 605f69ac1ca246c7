// Order, failure and abort of queued tasks.
import { expect, it } from 'vitest'
import { SerialQueue } from '../../lib/serial_queue.js'

const later = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
const task = { what: 'the task', interruptible: true }

it('runs tasks one at a time in the order of the calls, past failures', async () => {
  const queue = new SerialQueue()
  const log: string[] = []
  const run = (name: string, ms: number) =>
    queue.run(async () => {
      log.push(`${name} begins`)
      await later(ms)
      log.push(`${name} ends`)
      if (name === 'b') throw new Error('b failed')
      return name
    }, task)
  const results = await Promise.allSettled([run('a', 4), run('b', 1), run('c', 0)])
  expect(log).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends'])
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
})

it('is idle only when everything queued has ended, aborted tasks included', async () => {
  const queue = new SerialQueue()
  let ended = false
  const controller = new AbortController()
  const running = queue.run(
    async () => {
      await later(5)
      ended = true
    },
    { ...task, signal: controller.signal },
  )
  await later(1)
  controller.abort('enough')
  await expect(running).rejects.toMatchObject({ code: 'ABORTED', message: 'the task was aborted', cause: 'enough' })
  expect(ended).toBe(false)
  await queue.idle()
  expect(ended).toBe(true)
})

it('finishes a started task that may not be interrupted', async () => {
  const queue = new SerialQueue()
  const controller = new AbortController()
  const running = queue.run(
    async () => {
      await later(3)
      return 'done'
    },
    { what: 'the task', interruptible: false, signal: controller.signal },
  )
  await later(1)
  controller.abort()
  expect(await running).toBe('done')
})
