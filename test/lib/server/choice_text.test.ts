// Text of a choice: stop strings across tokens, characters across tokens, and the tokens that belong to what is sent.
import { describe, expect, it } from 'vitest'
import { ChoiceText, type TextPiece } from '../../../lib/server/choice_text.js'
import { Tokenizer } from '../../../lib/tokenizer.js'

function push(text: ChoiceText, bytes: Iterable<number>): TextPiece[] {
  return Array.from(bytes, (token) => text.push({ token, depth: 1, logprob: -token }))
}

function make(stop: string[] = []): ChoiceText {
  return new ChoiceText(Tokenizer.byteLevel().detokenizer(), stop)
}

describe('ChoiceText', () => {
  it('sends every token at once where nothing can stop it', () => {
    const pieces = push(make(), Buffer.from('ab'))
    expect(pieces).toEqual([
      { text: 'a', tokens: [{ text: 'a', offset: 0, logprob: -97 }] },
      { text: 'b', tokens: [{ text: 'b', offset: 1, logprob: -98 }] },
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
    const detokenizer = { push: (id: number) => words[id]!, flush: () => '' }
    const text = new ChoiceText(detokenizer, ['world'])
    const pieces = push(text, [1, 2])
    expect(pieces.map((piece) => piece.text)).toEqual(['Hello ', ''])
    expect(pieces.flatMap((piece) => piece.tokens)).toEqual([{ text: 'Hello wor', offset: 0, logprob: -1 }])
    expect(text.stopped).toBe(true)
  })
})
