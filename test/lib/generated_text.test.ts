// Text of a choice: stop strings across tokens, characters across tokens, and the tokens that belong to what is sent.
import { describe, expect, it } from 'vitest'
import { GeneratedText, type TextPiece, type TextToken } from '../../lib/generated_text.js'
import { topLogprobs } from '../../lib/server/top_logprobs.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { loadFamily } from './tokenizer/families.js'

function push(text: GeneratedText, bytes: Iterable<number>): TextPiece[] {
  return Array.from(bytes, (token) => text.push({ token, depth: 1, logprob: -token }))
}

/** The names and log-probabilities of the most likely tokens, as the answer has them. */
function topByName(token: TextToken): Record<string, number> {
  return topLogprobs(token.topLogprobs!, { ...token, logprob: token.logprob! })
}

function make(stop: string[] = []): GeneratedText {
  return new GeneratedText(Tokenizer.byteLevel().detokenizer(), stop)
}

describe('GeneratedText', () => {
  it('sends every token at once where nothing can stop it', () => {
    const pieces = push(make(), Buffer.from('ab'))
    expect(pieces).toEqual([
      { text: 'a', tokens: [{ token: 97, text: 'a', offset: 0, logprob: -97, topLogprobs: null }] },
      { text: 'b', tokens: [{ token: 98, text: 'b', offset: 1, logprob: -98, topLogprobs: null }] },
    ])
  })

  it('keeps a character whole, and the tokens in the order of their text', () => {
    const pieces = push(make(), Buffer.from('é!'))
    expect(pieces.map(({ text }) => text)).toEqual(['', 'é', '!'])
    expect(pieces.flatMap(({ tokens }) => tokens.map(({ text, offset }) => [text, offset]))).toEqual([
      ['', 0],
      ['é', 0],
      ['!', 1],
    ])
  })

  it('ends an unfinished character with U+FFFD', () => {
    const text = make()
    expect(push(text, [0xe2, 0x82]).map((piece) => piece.text)).toEqual(['', ''])
    expect(text.finish()).toEqual({ text: '\ufffd', tokens: [] })
  })

  it('ends with the stop token, whose name is not part of the text', () => {
    const text = make(['XYZ'])
    push(text, Buffer.from('aX'))
    const topLogprobs = [
      { token: 256, logprob: -1 },
      { token: 98, logprob: -2 },
    ]
    const rest = text.finish({ token: 256, depth: 1, logprob: -1, topLogprobs })
    expect(rest.text).toBe('X')
    expect(rest.tokens.map((token) => [token.text, token.offset, token.logprob])).toEqual([
      ['X', 1, -88],
      ['<|endoftext|>', 2, -1],
    ])
    expect(topByName(rest.tokens[1]!)).toEqual({ '<|endoftext|>': -1, b: -2 })
  })

  it('holds back what may become a stop string, and lets it go when it does not', () => {
    const text = make(['XYZ'])
    const pieces = push(text, Buffer.from('aXYb'))
    expect(pieces.map((piece) => piece.text)).toEqual(['a', '', '', 'XYb'])
    expect(pieces.map((piece) => piece.tokens.length)).toEqual([1, 0, 0, 3])
    expect(text.stopped).toBe(false)
  })

  it('sends nothing of the stop string, nor tokens that begin in it', () => {
    const text = make(['XYZ', 'never'])
    const pieces = push(text, Buffer.from('abXYZ'))
    expect(pieces.map((piece) => piece.text).join('')).toBe('ab')
    expect(pieces.flatMap((piece) => piece.tokens.map((token) => token.text))).toEqual(['a', 'b'])
    expect(text.stopped).toBe(true)
  })

  it('sends at the end what was held back for a stop string that never came', () => {
    const text = make(['XYZ'])
    push(text, Buffer.from('aXY'))
    const rest = text.finish()
    expect(rest.text).toBe('XY')
    expect(rest.tokens.map((token) => token.offset)).toEqual([1, 2])
    expect(text.stopped).toBe(false)
  })

  it('stops at a replaced character too', () => {
    const text = make(['\ufffd'])
    push(text, [97, 0xe2])
    expect(text.finish().text).toBe('')
    expect(text.stopped).toBe(true)
  })

  it('keeps the begin of a token that a stop string cuts', async () => {
    const words = ['', 'Hello wor', 'ld']
    const word = (id: number) => words[id]!
    const text = new GeneratedText({ push: word, peek: word, flush: () => '' }, ['world'])
    const pieces = push(text, [1, 2])
    expect(pieces.map((piece) => piece.text)).toEqual(['Hello ', ''])
    expect(pieces.flatMap((piece) => piece.tokens)).toEqual([
      { token: 1, text: 'Hello wor', offset: 0, logprob: -1, topLogprobs: null },
    ])
    expect(text.stopped).toBe(true)
  })

  it('names the most likely tokens by the text that each would have added', () => {
    const text = make()
    const bytes = [...Buffer.from('a€!')]
    const others = [0x62, 0xc3, 0x83, 0xad, 256] // b, begin and middle of a character, the end of another, end of text
    const names = bytes.map((token) => {
      const topLogprobs = others.map((other, i) => ({ token: other, logprob: -1 - i }))
      const { tokens } = text.push({ token, depth: 1, logprob: -9, topLogprobs })
      return topByName(tokens[0]!)
    })
    const noCharacter = { 'token_id:195': -2, 'token_id:131': -3, 'token_id:173': -4 }
    const after = { b: -1, ...noCharacter, '<|endoftext|>': -5 }
    const within = { 'token_id:98': -1, 'token_id:195': -2, 'token_id:256': -5 }
    expect(names).toEqual([
      { ...after, a: -9 },
      { ...after, '': -9 },
      { ...within, ...noCharacter, '': -9 },
      { ...within, '₃': -3, '₭': -4, '€': -9 },
      { ...after, '!': -9 },
    ])
  })

  describe('after a prompt whose tokenizer writes no space at the start of a text', async () => {
    const tokenizer = await loadFamily('llama')
    const idOf = (word: string) => tokenizer.encode(word, { addSpecialTokens: false }).at(-1)!
    const [there, was, little] = ['there', 'was', 'little'].map(idOf)
    const start = (stop: string[]) =>
      new GeneratedText(tokenizer.detokenizer(tokenizer.encode('Once upon a time,')), stop)
    const token = (id: number, others: number[] = []) => {
      const topLogprobs = [id, ...others].map((other, i) => ({ token: other, logprob: -1 - i }))
      return { token: id, depth: 1, logprob: -1, topLogprobs }
    }

    it('keeps the first space in text, names and offsets', () => {
      const text = start([])
      const pieces = [text.push(token(there!, [was!, 2])), text.push(token(was!, [little!]))]
      expect(pieces.map((piece) => piece.text)).toEqual([' there', ' was'])
      expect(pieces.flatMap(({ tokens }) => tokens.map((token) => [token.offset, topByName(token)]))).toEqual([
        [0, { ' there': -1, ' was': -2, '</s>': -3 }],
        [6, { ' was': -1, ' little': -2 }],
      ])
    })

    it('stops at a stop string that the first token is', () => {
      const text = start([' there'])
      expect(text.push(token(there!))).toEqual({ text: '', tokens: [] })
      expect(text.stopped).toBe(true)
    })
  })
})
