// The pre-tokenizer Split: what becomes of the parts of a text that a pattern finds.

interface Part {
  text: string
  isFound: boolean
}

export interface SplitRule {
  /** As tokenizer.json has it: Isolated, Removed, Contiguous, MergedWithPrevious or MergedWithNext. */
  behavior?: string
  /** Whether the parts between those that the pattern finds count as found. */
  invert?: boolean
}

/**
 * The parts in order.
 * @param pattern global
 * @throws {Error} for a behaviour that is not known
 */
export function splitText(text: string, pattern: RegExp, { behavior = '', invert = false }: SplitRule): string[] {
  const parts = partsOf(text, pattern, invert)
  switch (behavior.toLowerCase()) {
    case 'isolated':
      return parts.map((part) => part.text)
    case 'removed':
      return parts.filter(({ isFound }) => !isFound).map((part) => part.text)
    case 'contiguous':
      return joined(parts, (part, before) => part.isFound === before.isFound)
    case 'mergedwithprevious':
      return joined(parts, (part, before) => part.isFound && !before.isFound)
    case 'mergedwithnext':
      return joined(parts, (part, before) => !part.isFound && before.isFound)
    default:
      throw new Error(`a pre-tokenizer has the unknown behavior "${behavior}"`)
  }
}

function partsOf(text: string, pattern: RegExp, invert: boolean): Part[] {
  const parts: Part[] = []
  const push = (start: number, end: number, isFound: boolean) => {
    if (end > start) parts.push({ text: text.slice(start, end), isFound: isFound !== invert })
  }
  let end = 0
  for (const { 0: found, index } of text.matchAll(pattern)) {
    push(end, index, false)
    end = index + found.length
    push(index, end, true)
  }
  push(end, text.length, false)
  return parts
}

/** Neighbours are one part where `joins` says so of them. */
function joined(parts: readonly Part[], joins: (part: Part, before: Part) => boolean): string[] {
  const texts: string[] = []
  for (const [i, part] of parts.entries()) {
    if (i > 0 && joins(part, parts[i - 1]!)) texts[texts.length - 1] += part.text
    else texts.push(part.text)
  }
  return texts
}
