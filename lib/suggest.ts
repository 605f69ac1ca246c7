// The nearest known name to one that was mistyped.

/** ` (did you mean "hidden_size"?)`, or an empty string if no name in `known` is near `name`. */
export function suggestion(name: string, known: Iterable<string>): string {
  let best = ''
  let bestDistance = Math.max(2, Math.floor(name.length / 3)) + 1
  for (const candidate of known) {
    const [wrong, right] = [name.toLowerCase(), candidate.toLowerCase()]
    const edits = editDistance(wrong, right)
    // What was cut short is meant rather than what was added to.
    const cut = wrong.length > 2 && right.startsWith(wrong)
    const longer = right.length > 2 && wrong.startsWith(right)
    const distance = Math.min(edits, cut ? 1 : longer ? 1.5 : edits)
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best === '' ? '' : ` (did you mean "${best}"?)`
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substitution, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[b.length]!
}
