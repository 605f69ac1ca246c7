// Wrong tables in a tokenizer.json are refused by name, and never make another tokenizer.
import { describe, expect, it } from 'vitest'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { families, tokenizerFolder } from './families.js'

describe('bad tables', () => {
  const bpe = families.llama.model
  const model = (changes: object) => ({ model: { ...bpe, ...changes } })
  const vocab = (id: unknown) => model({ vocab: { ...bpe.vocab, odd: id } })
  const added = (token: unknown) => ({ added_tokens: [token] })
  it.each<[RegExp, object]>([
    [/model: vocab gives "odd" the id -1; it must be an integer from 0/, vocab(-1)],
    [/the id 1.5;/, vocab(1.5)],
    [/model: vocab gives "[^"]+" and "odd" the same id 0$/, vocab(0)],
    [/the id 1000000000000;/, vocab(1e12)],
    [/the id "7";/, vocab('7')],
    [/the id null;/, vocab(null)],
    [/model: vocab is \[\]; it must be an object/, model({ vocab: [] })],
    [/model: vocab is null; it must be an object/, model({ vocab: null })],
    [/model: vocab is \{.*; it must be a list/, model({ type: 'Unigram' })],
    [/vocab holds \["a","1"\]; each must be a text and its score/, model({ type: 'Unigram', vocab: [['a', '1']] })],
    [/model: merges is null; it must be a list/, model({ merges: null })],
    [/model: merges is undefined; it must be a list/, model({ merges: undefined })],
    [/merges holds "ab"; each must be two texts/, model({ merges: ['ab'] })],
    [/merges holds \["a","b"\];/, model({ merges: ['a b', ['a', 'b']] })],
    [/merges holds "a b";/, model({ merges: [['a', 'b'], 'a b'] })],
    [/merges holds \["a",1\];/, model({ merges: [['a', 1]] })],
    [/added_tokens is null; it must be a list/, { added_tokens: null }],
    [/added_tokens holds null; each must have an integer from 0 as id/, added(null)],
    [/added_tokens holds \{"id":"3"/, added({ id: '3', content: '<x>' })],
    [/added_tokens holds \{"id":-1/, added({ id: -1, content: '<x>' })],
    [/added_tokens holds \{"id":3\}/, added({ id: 3 })],
    [/decoder: type "CTC" is for speech/, { decoder: { type: 'CTC' } }],
    [/decoder: type "CTC" is for speech/, { decoder: { type: 'Sequence', decoders: [{ type: 'CTC' }] } }],
  ])('%s', async (message, changes) => {
    await expect(Tokenizer.load(tokenizerFolder('llama', changes))).rejects.toMatchObject({
      name: 'MorError',
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(message),
    })
  })
})
