import { setImmediate as turn } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { EventDelivery } from '../../lib/event_delivery.js'
import { Generation } from '../../lib/generation.js'
import { eventKind } from '../../lib/native/engine.js'

function requestsOf(count: number): Map<number, Generation> {
  return new Map(Array.from({ length: count }, (_, id) => [id, new Generation([1], () => {})]))
}

/** A step that gives every one of `count` requests a token. */
const step = (count: number, token: number) =>
  Float64Array.from(Array.from({ length: count }, (_, id) => [id, eventKind.token, token, 1, -1]).flat())

const ends = (count: number) =>
  Float64Array.from(Array.from({ length: count }, (_, id) => [id, eventKind.length, -1, 0, 0]).flat())

it('hands out a large step in several turns of the event loop, and every request its tokens in order', async () => {
  const requests = requestsOf(100)
  const generations = [...requests.values()]
  const delivery = new EventDelivery(requests)
  const reached = () => generations.filter(({ timing }) => timing.firstToken !== null).length
  delivery.receive(step(100, 7), [])
  expect(reached()).toBeGreaterThan(0)
  expect(reached()).toBeLessThanOrEqual(20)
  delivery.receive(step(100, 8), [])
  delivery.receive(ends(100), [])
  const before = reached()
  await turn()
  expect(reached()).toBeGreaterThan(before)
  for (const generation of generations)
    expect(await generation.result).toMatchObject({ tokens: [7, 8], finishReason: 'length' })
  expect(requests.size).toBe(0)
})

it('hands out a small step at once', () => {
  const requests = requestsOf(4)
  const generations = [...requests.values()]
  new EventDelivery(requests).receive(step(4, 7), [])
  expect(generations.every(({ timing }) => timing.firstToken !== null)).toBe(true)
})

it('hands on what is said of a stop token', async () => {
  const requests = requestsOf(1)
  const [generation] = requests.values()
  const { token, top, stop } = eventKind
  const events = [
    [0, token, 7, 1, -1],
    [0, top, 3, 0, -0.25],
    [0, top, 9, 0, -2],
    [0, stop, 9, 2, -2],
  ]
  new EventDelivery(requests).receive(Float64Array.from(events.flat()), [])
  expect(await generation!.result).toMatchObject({
    tokens: [7],
    finishReason: 'stop',
    stopToken: {
      token: 9,
      depth: 2,
      logprob: -2,
      topLogprobs: [
        { token: 3, logprob: -0.25 },
        { token: 9, logprob: -2 },
      ],
    },
  })
  expect(requests.size).toBe(0)
})

it('tells those who were aborted at once, and drops the tokens that they still waited for', async () => {
  const requests = requestsOf(100)
  const generations = [...requests.values()]
  const delivery = new EventDelivery(requests)
  const { abort, token, top } = eventKind
  const listed = [...Array(100).keys()].flatMap((id) => [
    [id, top, 3, 0, -0.5],
    [id, token, 7, 1, -1],
  ])
  delivery.receive(Float64Array.from(listed.flat()), [])
  // Of 98, the list of its token comes before the end of it, and the token after.
  delivery.receive(Float64Array.from([98, abort, -1, 0, 0]), [])
  expect(await generations[98]!.result).toMatchObject({ tokens: [], finishReason: 'abort' })
  delivery.receive(ends(98), [])
  delivery.receive(Float64Array.from([99, eventKind.length, -1, 0, 0]), [])
  delivery.finish()
  expect((await generations[99]!.result).tokens).toEqual([7])
  for (const id of [0, 97]) expect(await generations[id]!.result).toMatchObject({ tokens: [7], finishReason: 'length' })
  expect(requests.size).toBe(0)
})

it('forgets the list of a token whose request is aborted before the token', async () => {
  const requests = new Map([0, 1].map((id) => [id, new Generation([1], () => {}, { topLogprobs: true })]))
  const generations = [...requests.values()]
  const delivery = new EventDelivery(requests)
  const { abort, length, token, top } = eventKind
  const lists = [3, 4, 5, 6].map((id) => [0, top, id, 0, -0.5])
  delivery.receive(
    Float64Array.from([...lists, [0, token, 7, 1, -1], [1, top, 9, 0, -2], [1, token, 8, 1, -1]].flat()),
    [],
  )
  delivery.receive(Float64Array.from([0, abort, -1, 0, 0]), [])
  delivery.receive(Float64Array.from([1, length, -1, 0, 0]), [])
  delivery.finish()
  expect((await generations[1]!.result).topLogprobs).toEqual([[{ token: 9, logprob: -2 }]])
})

it('delivers what is left when it is finished', async () => {
  const requests = requestsOf(100)
  const generations = [...requests.values()]
  const delivery = new EventDelivery(requests)
  delivery.receive(step(100, 7), [])
  delivery.receive(ends(100), [])
  delivery.finish()
  expect(requests.size).toBe(0)
  expect(await generations[99]!.result).toMatchObject({ tokens: [7], finishReason: 'length' })
  await turn() // what was scheduled finds nothing
})
