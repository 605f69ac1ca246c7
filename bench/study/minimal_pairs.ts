// Minimal pairs made of plain text by rule: a sentence of a book, and the same with one thing made wrong.
import { pick, sentencesOf, spread } from './sentences.js'
import { verbs } from './verb_forms.js'

/** A line of a minimal-pairs task. */
export interface Pair {
  good: string
  bad: string
}

/** The sentence made wrong; null where this way of doing it does not apply. */
type Spoil = (sentence: string) => string | null

const longestSentence = 300

const determiners = 'the|a|an|this|that|his|her|its|my|your|our|their'
const verbNumber = new Map([
  ['was', 'were'],
  ['is', 'are'],
  ['has', 'have'],
])
/** After a determiner; `that` and `her` may be none. */
const nounWord = '(?!(?:she|they|you|who|which|there|what|not|had|was|were)\\b)[a-z]{3,}'
const prepositions = ['of', 'in', 'on', 'at', 'for', 'from', 'with', 'by', 'upon', 'into']
const adverbs = 'not|never|ever|always|already|also|just|only|often|soon|long|now|then|once|again|almost|quite'

/**
 * The kinds, as in BLiMP (Warstadt et al. 2020, arXiv 1912.00582), each with the directions in which a sentence can be made wrong.
 * Where there are two, each has as many pairs as the other, so that neither of two words wins for being the more frequent one.
 */
function kinds(sentences: readonly string[]): Record<string, readonly Spoil[]> {
  const forms = (find: (verb: (typeof verbs)[number]) => [from: string, to: string]) =>
    new Map(verbs.map(find).filter(([from, to]) => from !== to))
  const plural = new Map([...verbNumber].map(([one, many]) => [many, one]))
  const conjunctions = `(?<=\\b(?:and|or|but) (?:(?:${adverbs}) )?)`
  const auxiliaries = '(?<=\\b(?:had|have|has|having|was|were|been|being) (?:[a-z]+ ){1,2})'
  const noun = `(?<=\\b(?:${determiners}|these|those|some|many|other) ${nounWord} )`
  return {
    adjacent_words: [swapAdjacent],
    nouns: [swapNouns],
    verb_number: [replace(noun, verbNumber), replace(noun, plural)],
    // The verb before the conjunction tells the form.
    tense: [
      replace(
        conjunctions,
        forms(({ past, base }) => [past, base]),
      ),
      replace(
        conjunctions,
        forms(({ base, past }) => [base, past]),
      ),
    ],
    participle: [
      replace(
        noun,
        forms(({ past, participle }) => [past, participle]),
      ),
      replace(
        auxiliaries,
        forms(({ participle, past }) => [participle, past]),
      ),
    ],
    article: [
      // Before some words in h, u and y either is right.
      replace('', new Map([['a', 'an']]), ' [b-df-gj-np-tv-xz]'),
      replace('', new Map([['an', 'a']]), ' [aeio]'),
    ],
    preposition: [otherPreposition],
    word_choice: [otherWord(sentences)],
  }
}

/** @param count most pairs of each kind */
export function minimalPairs(texts: readonly string[], count: number): Record<string, Pair[]> {
  const sentences = texts.flatMap(sentencesOf).filter(({ length }) => length <= longestSentence)
  const pairs = (spoil: Spoil): Pair[] =>
    sentences.flatMap((good) => {
      const bad = spoil(good)
      return bad === null ? [] : [{ good, bad }]
    })
  return Object.fromEntries(
    Object.entries(kinds(sentences)).map(([name, directions]) => {
      const all = directions.map(pairs)
      const each = Math.min(Math.floor(count / directions.length), ...all.map(({ length }) => length))
      return [name, all.flatMap((list) => spread(list, each))]
    }),
  )
}

/** Puts another word in the place of one that stands in a certain place. @param before, after patterns of what is around it */
function replace(before: string, words: ReadonlyMap<string, string>, after = '\\b'): Spoil {
  const pattern = new RegExp(`${before}\\b(${[...words.keys()].join('|')})(?=${after})`)
  return (sentence) => {
    const found = pattern.exec(sentence)
    return found === null ? null : put(sentence, found.index, found[1]!, words.get(found[1]!)!)
  }
}

function put(sentence: string, at: number, right: string, wrong: string): string {
  return sentence.slice(0, at) + wrong + sentence.slice(at + right.length)
}

/** Two long words that stand side by side change places. */
function swapAdjacent(sentence: string): string | null {
  const words = sentence.split(' ')
  const places = words.flatMap((word, i) => {
    const next = words[i + 1] ?? ''
    return i > 0 && /^[a-z]{4,}$/.test(word) && /^[a-z]{4,}$/.test(next) && word !== next ? [i] : []
  })
  const place = pick(places, sentence)
  if (place === null) return null
  return words
    .with(place, words[place + 1]!)
    .with(place + 1, words[place]!)
    .join(' ')
}

/** Two words that stand after determiners, mostly nouns, change places. */
function swapNouns(sentence: string): string | null {
  // Without "a" and "an", which would not fit the other word.
  const nouns = [...sentence.matchAll(/(?<=\b(?:the|his|my|your|our|their|its) )[a-z]{3,}\b/gi)]
  const pairs = nouns.slice(1).map((second, i) => [nouns[i]!, second] as const)
  const chosen = pick(
    pairs.filter(([{ 0: first }, { 0: second }]) => first !== second),
    sentence,
  )
  if (chosen === null) return null
  const [{ 0: first, index: begin }, { 0: second, index: end }] = chosen
  return put(put(sentence, end, second, first), begin, first, second)
}

function otherPreposition(sentence: string): string | null {
  const found = pick([...sentence.matchAll(new RegExp(`(?<= )(?:${prepositions.join('|')})(?= )`, 'g'))], sentence)
  if (found === null) return null
  const others = prepositions.filter((word) => word !== found[0])
  return put(sentence, found.index, found[0], pick(others, `${sentence} `)!)
}

/** A word of the sentence becomes another that is about as frequent and ends alike. */
function otherWord(sentences: readonly string[]): Spoil {
  // Without a word that follows "a" or "an", which would not fit the other one.
  const wordsOf = (sentence: string) => [...sentence.matchAll(/(?<!\ban? )\b[a-z]{5,}\b/g)]
  const counts = new Map<string, number>()
  for (const sentence of sentences) {
    for (const [word] of wordsOf(sentence)) counts.set(word, (counts.get(word) ?? 0) + 1)
  }
  const order = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
  /** Of each ending the word that has no partner yet. */
  const single = new Map<string, string>()
  const partners = new Map<string, string>()
  for (const [word] of order) {
    const ending = /(?:ing|ed|ly|s)$/.exec(word)?.[0] ?? ''
    const other = single.get(ending)
    if (other === undefined) single.set(ending, word)
    else {
      single.delete(ending)
      partners.set(word, other).set(other, word)
    }
  }
  return (sentence) => {
    const found = pick(
      wordsOf(sentence).filter(([word]) => partners.has(word)),
      sentence,
    )
    return found === null ? null : put(sentence, found.index, found[0], partners.get(found[0])!)
  }
}
