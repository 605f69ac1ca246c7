// The outbox: everything is written once and in order, and the event loop serves others in between.
import { expect, it } from 'vitest'
import { Outbox } from '../../../lib/server/outbox.js'

const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

function busyFor(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
}

it('writes in order, each once, and lets others come between', async () => {
  const outbox = new Outbox()
  const written: number[] = []
  const writers = Array.from({ length: 20 }, (_, i) => () => {
    written.push(i)
    busyFor(0.4)
  })
  for (const write of [...writers, ...writers]) outbox.add(write)
  expect(written).toEqual([])
  const seen: number[] = []
  while (written.length < 20) {
    await nextTurn()
    seen.push(written.length)
  }
  expect(written).toEqual(Array.from({ length: 20 }, (_, i) => i))
  expect(seen.length).toBeGreaterThan(5)
  await nextTurn()
  expect(written.length).toBe(20)
})

it('takes what is added later, by a writer too', async () => {
  const outbox = new Outbox()
  const written: string[] = []
  outbox.add(() => {
    written.push('first')
    outbox.add(() => written.push('third'))
  })
  outbox.add(() => written.push('second'))
  await nextTurn()
  await nextTurn()
  outbox.add(() => written.push('fourth'))
  await nextTurn()
  expect(written).toEqual(['first', 'second', 'third', 'fourth'])
})
