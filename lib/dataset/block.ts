// A block of encoded text in memory, in which places are counted in tokens, end tokens included.
import type { EncodedSegment } from './encode.js'

/** The tokens in [from, to) of a block. */
export interface Range {
  from: number
  to: number
}

/** A part of a segment: its ids in [from, to). */
export interface Part {
  /** Whether it lies in one of the ranges. */
  inside: boolean
  segment: EncodedSegment
  from: number
  to: number
}

export class Block {
  readonly segments: EncodedSegment[] = []
  /** The place of the first token of each segment. */
  readonly starts: number[] = []
  /** The places between documents, in order. */
  readonly gaps: number[] = []
  #tokens = 0

  /** @param startsDocument false if the first segment goes on with a document of the block before */
  constructor(startsDocument: boolean) {
    if (startsDocument) this.gaps.push(0)
  }

  get tokens(): number {
    return this.#tokens
  }

  push(segment: EncodedSegment): void {
    this.segments.push(segment)
    this.starts.push(this.#tokens)
    this.#tokens += segment.ids.length + (segment.endsDocument ? 1 : 0)
    if (segment.endsDocument) this.gaps.push(this.#tokens)
  }

  /** The index of the segment that holds the token at `place`. */
  segmentAt(place: number): number {
    return lowerBound(this.starts, place + 1) - 1
  }

  /** The gap between documents that is nearest to `place`, in [low, high]; null if there is none. */
  gapNear(place: number, low: number, high: number): number | null {
    const after = lowerBound(this.gaps, place)
    const near = [this.gaps[after - 1], this.gaps[after]].filter((gap) => gap !== undefined)
    const allowed = near.filter((gap) => gap >= low && gap <= high)
    return allowed.length === 0 ? null : allowed.reduce((a, b) => (place - a <= b - place ? a : b))
  }

  /** Its gaps in [low, high]. */
  gapsWithin(low: number, high: number): number[] {
    return this.gaps.slice(lowerBound(this.gaps, low), lowerBound(this.gaps, high + 1))
  }

  /** All of the block in order, cut where one of `ranges` (in order, apart) begins or ends. */
  *parts(ranges: readonly Range[]): Generator<Part> {
    let next = 0
    for (const [i, segment] of this.segments.entries()) {
      const start = this.starts[i]!
      let from = 0
      do {
        while (next < ranges.length && ranges[next]!.to <= start + from) next++
        const range = ranges[next] ?? { from: this.#tokens, to: this.#tokens }
        const inside = range.from <= start + from && start + from < range.to
        const to = Math.min(segment.ids.length, (inside ? range.to : range.from) - start)
        yield { inside, segment, from, to }
        from = to
      } while (from < segment.ids.length)
    }
  }
}

/** The index of the first of the ascending `values` that is at least `value`. */
function lowerBound(values: readonly number[], value: number): number {
  let low = 0
  let high = values.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (values[middle]! < value) low = middle + 1
    else high = middle
  }
  return low
}
