// A colour for every recursion depth, and text painted with it.
// Must not know: where tokens and depths come from.
import type pc from 'picocolors'

/** The painters of one terminal; without colour support they leave the text as it is. */
export type Painters = ReturnType<typeof pc.createColors>

/** From shallow to deep; no recursion at all has the first, deeper than there are colours stays at the last. */
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
