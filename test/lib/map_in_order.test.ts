import { describe, expect, it } from 'vitest'
import { mapInOrder } from '../../lib/map_in_order.js'

const after = async (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))

describe('mapInOrder', () => {
  it('keeps the order of the items', async () => {
    const doubled = await mapInOrder([3, 1, 2], async (item) => {
      await after(item)
      return item * 2
    })
    expect(doubled).toEqual([6, 2, 4])
  })

  it('reports the first item that fails, though a later one would fail sooner', async () => {
    const begun: number[] = []
    const failing = mapInOrder([5, 0], async (item) => {
      begun.push(item)
      await after(item)
      throw new Error(`item ${item}`)
    })
    await expect(failing).rejects.toThrow('item 5')
    expect(begun).toEqual([5])
  })
})
