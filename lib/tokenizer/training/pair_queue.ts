// A priority queue of pairs whose counts change: a binary heap with entries that are corrected when they come to its top.

interface Entry {
  pair: number
  count: number
}

export class PairQueue {
  readonly #heap: Entry[] = []
  /** Pairs whose counts have grown: no entry is as large as they are. An entry that is too large does no harm. */
  readonly #raised = new Set<number>()

  raise(pair: number): void {
    this.#raised.add(pair)
  }

  /** Takes out the pair with the largest count, the smallest of these; null if all counts are 0. */
  pop(countOf: (pair: number) => number): Entry | null {
    for (const pair of this.#raised) this.#push({ pair, count: countOf(pair) })
    this.#raised.clear()
    while (this.#heap.length > 0) {
      const top = this.#take()
      const count = countOf(top.pair)
      if (count === top.count && count > 0) return top
      if (count > 0 && count < top.count) this.#push({ pair: top.pair, count })
    }
    return null
  }

  #push(entry: Entry): void {
    const heap = this.#heap
    let at = heap.push(entry) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(entry, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = entry
  }

  #take(): Entry {
    const heap = this.#heap
    const top = heap[0]!
    const last = heap.pop()!
    if (heap.length === 0) return top
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return top
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.count > b.count || (a.count === b.count && a.pair < b.pair)
}
