// Stop strings: where they are found, however the text is cut, and what is held back for them.
import { describe, expect, it } from 'vitest'
import { StopStrings } from '../../lib/stop_strings.js'

/** Where the stop string that ends first begins, found by searching from the start after every unit. */
function expectedStart(text: string, strings: string[]): number | null {
  for (let end = 1; end <= text.length; end++) {
    const found = strings.filter((stop) => text.slice(0, end).endsWith(stop)).map((stop) => end - stop.length)
    if (found.length > 0) return Math.min(...found)
  }
  return null
}

function expectedHeld(text: string, strings: string[]): number {
  const lengths = strings.flatMap((stop) =>
    Array.from(stop, (_, i) => i).filter((i) => text.endsWith(stop.slice(0, i))),
  )
  return Math.max(0, ...lengths)
}

describe('StopStrings', () => {
  it('finds nothing and holds nothing without strings', () => {
    const stop = new StopStrings([])
    expect(stop.push('anything')).toBeNull()
    expect(stop.held).toBe(0)
  })

  it('finds none that ends in a piece that does not count, but one that begins there', () => {
    const stop = new StopStrings(['aba', 'bb'])
    expect(stop.push('abab', false)).toBeNull()
    expect(stop.held).toBe(2)
    expect(stop.push('a')).toBe(2)
    const other = new StopStrings(['ab'])
    expect(other.push('ab', false)).toBeNull()
    expect(other.push('cab')).toBe(3)
  })

  it('agrees with a search from the start, for random text in random pieces', () => {
    let state = 1
    const random = (below: number) => {
      state = (state * 48271) % 2147483647
      return state % below
    }
    const word = (length: number) => Array.from({ length }, () => 'ab'[random(2)]).join('')
    let found = 0
    for (let round = 0; round < 2000; round++) {
      const strings = Array.from({ length: 1 + random(3) }, () => word(1 + random(6)))
      const text = word(random(24))
      const stop = new StopStrings(strings)
      let start: number | null = null
      let sent = 0
      while (sent < text.length && start === null) {
        const piece = text.slice(sent, sent + 1 + random(4))
        start = stop.push(piece)
        sent += piece.length
        if (start === null) expect(stop.held).toBe(expectedHeld(text.slice(0, sent), strings))
      }
      expect(start, `${strings} in ${text}`).toBe(expectedStart(text, strings))
      if (start !== null) found++
    }
    expect(found).toBeGreaterThan(500)
    expect(found).toBeLessThan(1900)
  })
})
