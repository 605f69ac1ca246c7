// Depth colours: each depth has its own, deeper ones share the last, and there are none without colour support.
import { stripVTControlCharacters } from 'node:util'
import pc from 'picocolors'
import { describe, expect, it } from 'vitest'
import { depthLegend, paintDepth } from '../../../lib/cli/depth_colors.js'

const painters = pc.createColors(true)

describe('depth colours', () => {
  it('differ up to six and stay at the last beyond', () => {
    const painted = [1, 2, 3, 4, 5, 6].map((depth) => paintDepth('x', depth, painters))
    expect(new Set(painted).size).toBe(6)
    expect(paintDepth('x', 7, painters)).toBe(painted[5])
    expect(paintDepth('x', 0, painters)).toBe(painted[0])
    for (const text of painted) expect(stripVTControlCharacters(text)).toBe('x')
  })

  it('are named by the legend', () => {
    const [one, two] = [1, 2].map((depth) => paintDepth(String(depth), depth, painters))
    expect(depthLegend(2, painters)).toBe(`depth ${one} ${two}`)
    expect(depthLegend(3, pc.createColors(false))).toBe('depth 1 2 3')
  })
})
