// Merging short words gives what the library gives, whatever the merges are.
import { describe, expect, it } from 'vitest'
import { byteCharacters } from '../../../lib/tokenizer/byte_level_json.js'
import { type Internals, makeLibraryTokenizer, type TokenizerJson } from '../../../lib/tokenizer/library.js'
import { WordEncoder } from '../../../lib/tokenizer/word_encoder.js'
import { WordMerger } from '../../../lib/tokenizer/word_merger.js'

type Pair = [string, string]

function tokenizerOf(merges: readonly Pair[], model: object = {}, more: readonly string[] = []): TokenizerJson {
  const tokens = [...new Set([...byteCharacters(), ...merges.map((pair) => pair.join('')), ...more])]
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]))
  const pre_tokenizer = { type: 'ByteLevel', add_prefix_space: false, use_regex: true }
  return { pre_tokenizer, model: { type: 'BPE', vocab, merges, ...model } } as unknown as TokenizerJson
}

const characters = byteCharacters()
/** As the vocabulary writes the bytes of `word`. */
const spelled = (word: string) => Array.from(Buffer.from(word), (byte) => characters[byte]).join('')

const makeLibrary = async (json: TokenizerJson) => {
  const library = await makeLibraryTokenizer(json)
  const { model } = library as unknown as Internals
  return { library, model, merger: WordMerger.of(model) }
}

/** Numbers below `below` in an order without a pattern, the same for the same seed. */
function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return (state >>> 16) % below
  }
}

/** Merges of three letters and of what earlier merges give, so that a pair often comes several times in a word. */
function randomMerges(next: (below: number) => number): Pair[] {
  const tokens = ['a', 'b', 'Ġ']
  const merges: Pair[] = []
  for (let i = 0; i < 12; i++) {
    const pair: Pair = [tokens[next(tokens.length)]!, tokens[next(tokens.length)]!]
    if (tokens.includes(pair.join(''))) continue
    merges.push(pair)
    tokens.push(pair.join(''))
  }
  for (let i = merges.length - 1; i > 0; i--) {
    const j = next(i + 1)
    ;[merges[i], merges[j]] = [merges[j]!, merges[i]!]
  }
  return merges
}

describe('a word is merged as the library merges it', () => {
  it('for random merges in any order', { timeout: 60_000 }, async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const next = random(seed)
      const { library, merger } = await makeLibrary(tokenizerOf(randomMerges(next)))
      for (let i = 0; i < 40; i++) {
        const word = ` ${Array.from({ length: 1 + next(20) }, () => 'ab'[next(2)]).join('')}`
        expect(merger!.merge(spelled(word)), word).toEqual(library.encode(word, { add_special_tokens: false }).ids)
      }
    }
  })

  it('for words of other scripts, and for none', async () => {
    const { library, merger } = await makeLibrary(tokenizerOf([['Ã', '¼']]))
    for (const word of ['ü', 'über', '漢字', '😀', ''])
      expect(merger!.merge(spelled(word))).toEqual(library.encode(word, { add_special_tokens: false }).ids)
  })
})

describe('the word encoder', () => {
  const merges: Pair[] = [
    ['a', 'b'],
    ['b', 'a'],
    ['ab', 'a'],
  ]
  it.each<[string, TokenizerJson]>([
    ['tokens that count before merges', tokenizerOf(merges, { ignore_merges: true }, ['bab', 'Ġbaa'])],
    ['a mark at the ends of words', tokenizerOf(merges, { end_of_word_suffix: '</w>' }, ['a</w>', 'b</w>', 'ab</w>'])],
    ['merges whose result the vocabulary lacks', without(tokenizerOf(merges), 'ba')],
    ['merges as texts', tokenizerOf([], { merges: ['a b', 'b a'] }, ['ab', 'ba'])],
  ])('gives the ids of the library with %s', async (_, json) => {
    const { library } = await makeLibrary(json)
    const encoder = WordEncoder.of(json, library)!
    for (const text of ['bab', 'abab baa', 'aabba bab ab', `${'ab'.repeat(40)} ba`]) {
      const { ids } = library.encode(text, { add_special_tokens: false })
      expect(encoder.encode(text) ?? ids, text).toEqual(ids)
    }
  })

  it('cuts a text without words only where no merge joins', { timeout: 60_000 }, async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const next = random(seed)
      const json = { ...tokenizerOf(randomMerges(next)), pre_tokenizer: null }
      const { library } = await makeLibrary(json)
      const encoder = WordEncoder.of(json, library)!
      for (let i = 0; i < 40; i++) {
        const text = Array.from({ length: 1 + next(60) }, () => 'abĠ'[next(3)]).join('')
        expect(encoder.encode(text), text).toEqual(library.encode(text, { add_special_tokens: false }).ids)
      }
    }
  })

  it('has no merger where the library is needed', async () => {
    expect((await makeLibrary(tokenizerOf(merges))).merger).not.toBeNull()
    expect((await makeLibrary(tokenizerOf(merges, { end_of_word_suffix: '</w>' }))).merger).toBeNull()
    expect((await makeLibrary(without(tokenizerOf(merges), 'ba'))).merger).toBeNull()
  })

  it('leaves a word with an unknown character to the library', async () => {
    const { merger } = await makeLibrary(without(tokenizerOf(merges), 'z'))
    expect(merger!.merge('aza')).toBeNull()
    expect(merger!.merge('aba')).not.toBeNull()
  })
})

function without(json: TokenizerJson, token: string): TokenizerJson {
  delete (json.model.vocab as Record<string, number>)[token]
  return json
}
