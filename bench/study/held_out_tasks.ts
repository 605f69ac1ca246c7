// Tasks that are made of plain text without people: the last word of a passage, and sentences with one thing made wrong.

/** A line of a last-word task. */
export interface LastWord {
  context: string
  continuation: string
}

/** A line of a minimal-pairs task. */
export interface Pair {
  good: string
  bad: string
}

const minimumContext = 40
const maximumContext = 80

/**
 * Passages whose last word occurred before in them, as in LAMBADA (Paperno et al. 2016, arXiv 1606.06031), where only the wider
 * context tells it. No person has checked these, so a model cannot reach 1.
 */
export function lastWordExamples(texts: readonly string[], count: number): LastWord[] {
  const found = texts.flatMap((text) => {
    const all: LastWord[] = []
    let passage: string[] = []
    for (const sentence of sentencesOf(text)) {
      passage.push(...sentence.split(' '))
      if (passage.length > maximumContext) passage = []
      if (passage.length < minimumContext) continue
      const example = lastWordOf(passage)
      if (example !== null) all.push(example)
      passage = []
    }
    return all
  })
  return spread(found, count)
}

function lastWordOf(words: readonly string[]): LastWord | null {
  const last = /^([a-z]{5,})[.!?]$/.exec(words.at(-1)!)?.[1]
  const before = words.slice(0, -1)
  if (last === undefined || !before.some((word) => word.replace(/\W+$/, '') === last)) return null
  return { context: before.join(' '), continuation: last }
}

/** In a sentence, what is right, and what is put in its place. */
type Change = readonly [right: RegExp, wrong: string]

/** As in BLiMP (Warstadt et al. 2020, arXiv 1912.00582), each phenomenon with sentences of its own. */
const phenomena: Record<string, readonly Change[]> = {
  verb_number: [
    [/\b(he|she|it) was\b/, '$1 were'],
    [/\b(they|we) were\b/, '$1 was'],
    [/\b(he|she|it) has\b/, '$1 have'],
    [/\b(they|we) have\b/, '$1 has'],
    [/\b(he|she|it) is\b/, '$1 are'],
    [/\b(they|we) are\b/, '$1 is'],
  ],
  determiner_number: [
    [/\b(this|that) (man|woman|house|day|time|room|place|thing)\b/, 'these $2'],
    [/\b(these|those) (men|women|houses|days|times|rooms|places|things)\b/, 'this $2'],
  ],
  pronoun_case: [
    [/\b(to|for|with|from|at|upon) him\b/, '$1 he'],
    [/\b(to|for|with|from|at|upon) them\b/, '$1 they'],
    [/\b(to|for|with|from|at|upon) me\b/, '$1 I'],
  ],
  word_order: [[/\b(of|in|to|from|with) (the|a|his|her)\b/, '$2 $1']],
}

/** @param count of all phenomena together */
export function minimalPairs(texts: readonly string[], count: number): Record<string, Pair[]> {
  const names = Object.keys(phenomena)
  const sentences = texts.flatMap(sentencesOf).filter((sentence) => sentence.length <= 300)
  return Object.fromEntries(
    names.map((name) => {
      const pairs = sentences.flatMap((good) => {
        const change = phenomena[name]!.find(([right]) => right.test(good))
        return change === undefined ? [] : [{ good, bad: good.replace(...change) }]
      })
      return [name, spread(pairs, Math.floor(count / names.length))]
    }),
  )
}

/** Sentences on one line each, of four words or more. */
function sentencesOf(text: string): string[] {
  return text
    .replace(/\s+/g, ' ')
    .split(/(?<=[.!?]) (?=[A-Z"“])/)
    .filter((sentence) => sentence.split(' ').length >= 4)
}

/** `count` of all, evenly spread, so that every text has its part. */
function spread<T>(all: readonly T[], count: number): T[] {
  if (all.length <= count) return [...all]
  return Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]!)
}
