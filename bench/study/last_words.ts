// Last-word tasks made of plain text by rule: passages whose last word came before in them.
import { sentencesOf, spread } from './sentences.js'

/** A line of a last-word task. */
export interface LastWord {
  context: string
  continuation: string
}

/** Words of a passage. */
const fewest = 40
const most = 150

/**
 * Passages whose last word occurred in them, but not in their last sentence, as in LAMBADA (Paperno et al. 2016, arXiv 1606.06031),
 * where only the wider context tells it. A passage ends where the sentence or a clause of it ends; passages may overlap, but no two end with the
 * same sentence. No person has checked these, so a model cannot reach 1.
 */
export function lastWordExamples(texts: readonly string[], count: number): LastWord[] {
  return spread(texts.flatMap(lastWordsOf), count)
}

function lastWordsOf(text: string): LastWord[] {
  const sentences = sentencesOf(text).map((sentence) => sentence.split(' '))
  let first = 0
  let words = 0
  return sentences.flatMap((sentence, i) => {
    words += sentence.length
    while (words > most) words -= sentences[first++]!.length
    const wider = sentences.slice(first, i).flat()
    const told = new Set(wider.map(bare))
    for (let end = sentence.length - 1; wider.length + end >= fewest && end > 0; end--) {
      const last = /^([a-z]{5,})[.!?,;:]["”’]?$/.exec(sentence[end]!)?.[1]
      const own = sentence.slice(0, end)
      if (last === undefined || !told.has(last) || own.map(bare).includes(last)) continue
      return [{ context: [...wider, ...own].join(' '), continuation: last }]
    }
    return []
  })
}

/** The word without what stands around it. */
function bare(word: string): string {
  return word.replace(/^\W+|\W+$/g, '')
}
