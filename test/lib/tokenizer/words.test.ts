// Where texts are cut into words.
import { expect, it } from 'vitest'
import { type Internals, makeLibraryTokenizer, type TokenizerJson } from '../../../lib/tokenizer/library.js'
import { wordsOf } from '../../../lib/tokenizer/words.js'
import { families } from './families.js'

async function wordsIn(json: object, text: string): Promise<string[]> {
  const library = (await makeLibraryTokenizer(json as TokenizerJson)) as unknown as Internals
  return wordsOf(json as TokenizerJson, library)!.split(text)
}

it('the words of a byte-level tokenizer are those of its pre-tokenizer', async () => {
  expect(await wordsIn(families.byteLevel, 'There was 1 girl.')).toEqual(['There', ' was', ' 1', ' girl', '.'])
})

it('the words of other tokenizers end where no merge joins two characters', async () => {
  expect(await wordsIn(families.llama, '▁there▁was,12▁▁a.')).toEqual(['▁there', '▁was', ',', '1', '2', '▁', '▁a', '.'])
  const merges = [...families.llama.model.merges, ['▁', '▁'], ['s', ',']]
  const vocab = { ...families.llama.model.vocab, '▁▁': 500, 's,': 501 }
  const joining = { ...families.llama, model: { ...families.llama.model, vocab, merges } }
  expect(await wordsIn(joining, '▁there▁was,12▁▁a.')).toEqual(['▁there', '▁was,', '1', '2', '▁▁a', '.'])
})

it('no word ends within a character', async () => {
  expect(await wordsIn(families.llama, '😀😀\ud800\ud800x')).toEqual(['😀', '😀', '\ud800', '\ud800', 'x'])
})
