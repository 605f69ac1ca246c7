// Finds stop strings in text that arrives in pieces.

/** One string and, for each matched length, the length to continue from after a mismatch (Knuth, Morris, Pratt 1977). */
interface Pattern {
  text: string
  fallback: Int32Array
  matched: number
}

/** The tables of a list are made once: all choices of a request have the same list. */
const tablesOf = new WeakMap<readonly string[], Int32Array[]>()

export class StopStrings {
  readonly #patterns: Pattern[]
  #length = 0

  /** @param strings none of them empty */
  constructor(strings: readonly string[]) {
    const tables = tablesOf.get(strings) ?? strings.map(fallbackTable)
    tablesOf.set(strings, tables)
    this.#patterns = strings.map((text, i) => ({ text, fallback: tables[i]!, matched: 0 }))
  }

  /** How many of the last UTF-16 units may be the beginning of a stop string. */
  get held(): number {
    return this.#patterns.reduce((most, { matched }) => Math.max(most, matched), 0)
  }

  /**
   * Searches the next piece. Returns where the stop string that ends first begins in the whole text, or null. After a stop
   * string has been found no more pieces may be given.
   * @param counts whether a stop string that ends in this piece is found; false: the text goes on after it
   */
  push(piece: string, counts = true): number | null {
    if (this.#patterns.length === 0) return null
    for (let i = 0; i < piece.length; i++) {
      this.#length++
      const unit = piece.charCodeAt(i)
      let longest = 0
      for (const pattern of this.#patterns) if (advance(pattern, unit)) longest = Math.max(longest, pattern.text.length)
      if (longest > 0 && counts) return this.#length - longest
    }
    return null
  }
}

/** Whether `unit` completes the pattern. */
function advance(pattern: Pattern, unit: number): boolean {
  const { text, fallback } = pattern
  while (pattern.matched > 0 && text.charCodeAt(pattern.matched) !== unit) pattern.matched = fallback[pattern.matched]!
  if (text.charCodeAt(pattern.matched) === unit) pattern.matched++
  return pattern.matched === text.length
}

/** [length + 1]: for each prefix, its longest proper prefix that is also its suffix. */
function fallbackTable(text: string): Int32Array {
  const table = new Int32Array(text.length + 1)
  for (let end = 1, matched = 0; end < text.length; end++) {
    while (matched > 0 && text.charCodeAt(matched) !== text.charCodeAt(end)) matched = table[matched]!
    if (text.charCodeAt(matched) === text.charCodeAt(end)) matched++
    table[end + 1] = matched
  }
  return table
}
