// Chooses the parts of a block of text that are held out for validation.
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Tokenizer } from '../tokenizer.js'
import type { Block, Range } from './block.js'

/** What is to be held out of a block, in tokens. */
export interface Share {
  wanted: number
  /** How far from `wanted` the result may be, so that documents stay whole. */
  tolerance: number
  /** The result is at least this, and at most that. */
  least: number
  most: number
  /** Tokens of a row: pieces are not made shorter. */
  row: number
}

/** The result comes in about this many pieces, where that does not make them shorter than a row or longer than PIECE_TOKENS. */
const PIECES = 32
const PIECE_TOKENS = 8192
/** A piece that is cut out of a document has at least these, unless it is the last: each costs an end token and breaks a context. */
const LEAST_CUT_TOKENS = 1024
/** How far from the wanted place a cut inside a document may be, to fall on the end of a line or of a word; at most half a piece. */
const CUT_TOKENS = 256

/**
 * Ranges of the block in order, evenly spread over it. They are whole documents where documents of a fitting size lie there;
 * a long document is cut, after a line if there is one near.
 */
export async function chooseHeldOut(block: Block, share: Share, tokenizer: Tokenizer): Promise<Range[]> {
  const pieceTokens = Math.max(share.row, Math.min(share.wanted / PIECES, PIECE_TOKENS))
  const count = Math.max(1, Math.floor(share.wanted / pieceTokens))
  const stretch = block.tokens / count
  const reach = Math.floor(Math.min(CUT_TOKENS, pieceTokens / 2, share.tolerance))
  const shortDocuments = block.gaps.length > count
  // The pieces after it make up for one that is too large or too small.
  const tolerance = Math.max(share.tolerance, Math.min(4 * pieceTokens, stretch / 2))
  const ranges: Range[] = []
  let held = 0
  for (let i = 1; i < count; i++) {
    const low = ranges.at(-1)?.to ?? 0
    const end = Math.round(stretch * i)
    const high = block.gapNear(end, end - stretch / 4, end + stretch / 4) ?? end
    const wanted = Math.round((share.wanted * i) / count) - held
    const gaps = block.gapsWithin(low, high)
    const waits = wanted < LEAST_CUT_TOKENS || (gaps.length < 2 && shortDocuments && wanted <= tolerance)
    const range =
      lastDocuments(gaps, wanted, tolerance, share.wanted + share.tolerance - held) ??
      (waits
        ? { from: high, to: high }
        : await cutDocuments(block, { from: low, to: high }, wanted, reach, { least: 0, most: high - low }, tokenizer))
    if (range.to > range.from) ranges.push(range)
    held += range.to - range.from
  }
  const rest = { from: ranges.at(-1)?.to ?? 0, to: block.tokens }
  // A single piece must keep to the limits; several are far from them.
  const limits = count === 1 ? share : { least: 0, most: block.tokens }
  const wanted = share.wanted - held
  const range =
    nearestDocuments(block.gapsWithin(rest.from, rest.to), wanted, share.tolerance, limits) ??
    (await cutDocuments(block, rest, Math.max(wanted, limits.least), reach, limits, tokenizer))
  return range.to > range.from ? [...ranges, range] : ranges
}

type Limits = Pick<Share, 'least' | 'most'>

/**
 * The last documents between `gaps` that have about `wanted` tokens, perhaps none, and at most `most`. Null if no number of
 * them is within `tolerance`.
 */
function lastDocuments(gaps: number[], wanted: number, tolerance: number, most: number): Range | null {
  if (gaps.length < 2) return null
  const to = gaps.at(-1)!
  const distance = (from: number) => Math.abs(to - from - wanted)
  const allowed = gaps.filter((gap) => to - gap <= most)
  const from = allowed.reduce((best, gap) => (distance(gap) < distance(best) ? gap : best), to)
  return distance(from) <= tolerance ? { from, to } : null
}

/** The documents in a row, anywhere between `gaps`, whose tokens are nearest to `wanted`. Null if none are within `tolerance`. */
function nearestDocuments(gaps: number[], wanted: number, tolerance: number, { least, most }: Limits): Range | null {
  if (gaps.length < 2) return null
  const distance = ({ from, to }: Range) => Math.abs(to - from - wanted)
  let best: Range | null = null
  for (let first = 0, end = 0; first < gaps.length; first++) {
    while (end < gaps.length - 1 && gaps[end]! - gaps[first]! < wanted) end++
    for (const to of [gaps[Math.max(first, end - 1)]!, gaps[Math.max(first, end)]!]) {
      const range = { from: gaps[first]!, to }
      const size = to - range.from
      if (size < least || size > most || distance(range) > tolerance) continue
      if (best === null || distance(range) <= distance(best)) best = range
    }
  }
  return best
}

/** The last `wanted` tokens of a range, with each end at most `reach` away from there. */
async function cutDocuments(
  block: Block,
  { from: low, to: high }: Range,
  wanted: number,
  reach: number,
  { least, most }: Limits,
  tokenizer: Tokenizer,
): Promise<Range> {
  if (wanted <= 0) return { from: high, to: high }
  await nextTurn() // the texts of some hundred tokens take a few milliseconds
  const to = cutNear(block, high, Math.max(low, high - reach), high, tokenizer)
  const ideal = Math.max(low, to - wanted)
  const lowest = Math.max(low, to - most, ideal - reach)
  const highest = Math.min(to - least, ideal + reach)
  return { from: cutNear(block, ideal, lowest, highest, tokenizer), to }
}

/**
 * The place in [low, high] at which text is best cut: between documents; else, in the document at `ideal`, after a line, or
 * between words, or at least between characters; the nearest to `ideal` of those.
 */
function cutNear(block: Block, ideal: number, low: number, high: number, tokenizer: Tokenizer): number {
  const gap = block.gapNear(ideal, low, high)
  if (gap !== null) return gap
  const index = block.segmentAt(ideal)
  const { ids, endsDocument } = block.segments[index]!
  const start = block.starts[index]!
  const first = Math.max(0, low - start)
  // Between its last token and its end token a document is not cut.
  const last = Math.min(high - start, endsDocument ? ids.length - 1 : ids.length)
  const detokenizer = tokenizer.detokenizer()
  let best = { place: Math.min(ideal, start + last), quality: 0 }
  let before = ''
  // The tokens before the first place show whether a word or a character ends there.
  for (let at = Math.max(0, first - 4); at <= last; at++) {
    const text = at < ids.length ? detokenizer.push(ids[at]!) : ''
    if (at >= first) {
      const place = start + at
      const quality = qualityOfCut(before, text)
      const nearer = Math.abs(place - ideal) < Math.abs(best.place - ideal)
      if (quality > best.quality || (quality === best.quality && nearer)) best = { place, quality }
    }
    before = text
  }
  return best.place
}

/** @param before, after the text that the token before the cut completes, and the one after it; '' inside a character */
function qualityOfCut(before: string, after: string): number {
  if (before.endsWith('\n')) return 3
  if (/\s$/.test(before) || /^\s/.test(after)) return 2
  return before === '' ? 0 : 1
}
