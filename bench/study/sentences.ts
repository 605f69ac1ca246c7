// Sentences of plain text, and even choices among what is made of them.

/** After the end of a sentence and the quotation mark that may follow it, and not after a title. */
const boundary = /(?<=[.!?]["”’]?)(?<!\b(?:Mr|Mrs|Dr|St)\.) (?=["“‘]?[A-Z])/

/** Sentences on one line each, of four words or more. */
export function sentencesOf(text: string): string[] {
  return text
    .replace(/\s+/g, ' ')
    .split(boundary)
    .filter((sentence) => sentence.split(' ').length >= 4)
}

/** `count` of all, evenly spread, so that every text has its part. */
export function spread<T>(all: readonly T[], count: number): T[] {
  if (all.length <= count) return [...all]
  return Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]!)
}

/** One of the candidates, which the text decides: the same in every run (the hash is FNV-1a). Null where there is none. */
export function pick<T>(candidates: readonly T[], text: string): T | null {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0
  return candidates[hash % candidates.length] ?? null
}
