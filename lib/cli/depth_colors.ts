// A colour for every recursion depth, and text in that colour.
import type pc from 'picocolors'

/** Functions that colour text for one terminal; without colour support they return the text unchanged. */
export type Painters = ReturnType<typeof pc.createColors>

/** Colours from shallow to deep. Depth 0 has the first; depths beyond the last colour have the last. */
const DEPTH_COLORS = ['cyan', 'green', 'yellow', 'magenta', 'red', 'blue'] as const

export function paintDepth(text: string, depth: number, painters: Painters): string {
  const color = DEPTH_COLORS[Math.max(Math.min(depth, DEPTH_COLORS.length) - 1, 0)]!
  return painters[color](text)
}

/** `depth 1 2 3`, each number in its colour. */
export function depthLegend(recursions: number, painters: Painters): string {
  const numbers = Array.from({ length: recursions }, (_, i) => paintDepth(String(i + 1), i + 1, painters))
  return `depth ${numbers.join(' ')}`
}
