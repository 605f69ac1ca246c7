// A tokenizer that takes long for a long text: byte-level BPE with a token for each pair of seven letters, and no splitting into words.
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer } from '../../../lib/tokenizer.js'

const letters = [...'abcdefg']
const pairs = letters.flatMap((first) => letters.map((second): [string, string] => [first, second]))

/** Saves its `tokenizer.json` in a new temporary folder, and returns the folder. */
export async function savePairTokenizer(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mor-pairs-'))
  await Tokenizer.byteLevel().save(folder)
  const path = join(folder, 'tokenizer.json')
  const json = JSON.parse(await readFile(path, 'utf8'))
  for (const [i, pair] of pairs.entries()) json.model.vocab[pair.join('')] = 257 + i
  json.model.merges = pairs
  await writeFile(path, JSON.stringify(json))
  return folder
}

/** Text of `length` letters in an order without a pattern, the same at every call. */
export function randomLetters(length: number): string {
  let state = 1
  const next = () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return letters[(state >>> 16) % letters.length]!
  }
  return Array.from({ length }, next).join('')
}

/** The longest time in milliseconds for which the event loop was blocked while `work` ran. */
export async function longestBlock(work: () => Promise<unknown>): Promise<number> {
  let longest = 0
  let last = performance.now()
  const tick = () => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
  }
  const timer = setInterval(tick, 1)
  try {
    await work()
  } finally {
    tick()
    clearInterval(timer)
  }
  return longest
}
