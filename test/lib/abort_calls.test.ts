// Calls when a signal aborts: all of them once, none that was taken back, by one listener that goes with the last.
import { getEventListeners } from 'node:events'
import { expect, it } from 'vitest'
import { onAbort } from '../../lib/abort_calls.js'

const listeners = (signal: AbortSignal) => getEventListeners(signal, 'abort').length

it('calls all that were not taken back, and has one listener', () => {
  const controller = new AbortController()
  const called: string[] = []
  const call = () => called.push('twice')
  onAbort(controller.signal, call)
  onAbort(controller.signal, call)
  const takeBack = onAbort(controller.signal, () => called.push('taken back'))
  expect(listeners(controller.signal)).toBe(1)
  takeBack()
  takeBack()
  controller.abort()
  controller.abort()
  expect(called).toEqual(['twice', 'twice'])
})

it('leaves no listener behind the last call, and begins again after it', () => {
  const controller = new AbortController()
  let calls = 0
  const first = onAbort(controller.signal, () => calls++)
  first()
  expect(listeners(controller.signal)).toBe(0)
  const second = onAbort(controller.signal, () => calls++)
  first()
  expect(listeners(controller.signal)).toBe(1)
  controller.abort()
  second()
  expect(calls).toBe(1)
})
