// tokenizer.json files: real ones give the recorded ids, special tokens are found, bad files are refused with their reason.
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { sharedData } from '../shared_data.js'

/** A whole-word tokenizer of four tokens, with `files` beside it. */
function folderWith(files: Record<string, unknown>): string {
  const folder = mkdtempSync(join(tmpdir(), 'mor-tokenizer-'))
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
  const tokenizer = {
    version: '1.0',
    added_tokens: [
      { id: 2, content: '[BEGIN]', ...special },
      { id: 3, content: '[END]', ...special },
    ],
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: null,
    decoder: null,
    model: { type: 'WordLevel', vocab: { sea: 0, whale: 1, '[BEGIN]': 2, '[END]': 3 }, unk_token: 'sea' },
  }
  for (const [name, content] of Object.entries({ 'tokenizer.json': tokenizer, ...files })) {
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return folder
}

const stories = sharedData('checkpoints/stories260K/tokenizer.json')
const gpt2 = sharedData('tokenizers/gpt2/tokenizer.json')

describe('real tokenizers', () => {
  it.skipIf(!stories)(
    'stories260K decodes the recorded greedy ids to the recorded text, and encodes it back',
    async () => {
      const tokenizer = await Tokenizer.load(stories!)
      const folder = join(stories!, '..')
      const ids: number[] = JSON.parse(readFileSync(join(folder, 'greedy_ids.json'), 'utf8')).greedy_ids_from_bos
      const text = readFileSync(join(folder, 'expected-greedy.txt'), 'utf8')
      expect(tokenizer).toMatchObject({ vocabSize: 512, bosTokenId: 1, eosTokenId: 2 })
      const decoded = tokenizer.decode(ids)
      expect(decoded.length).toBeGreaterThan(100)
      expect(text.startsWith(decoded)).toBe(true)
      expect([...tokenizer.encode(decoded)]).toEqual(ids)
    },
  )

  it.skipIf(!gpt2)('gpt2 gives its published ids', { timeout: 60_000 }, async () => {
    const tokenizer = await Tokenizer.load(gpt2!)
    expect(tokenizer).toMatchObject({ vocabSize: 50257, bosTokenId: null, eosTokenId: 50256 })
    expect([...tokenizer.encode('Hello world')]).toEqual([15496, 995])
    expect(tokenizer.decode([15496, 995, 50256])).toBe('Hello world')
    expect(tokenizer.decode([15496, 60000])).toBe('Hello')
    const spaced = "do n't stop ! , why ?"
    expect(tokenizer.decode(tokenizer.encode(spaced))).toBe(spaced)
  })
})

describe('special tokens', () => {
  it('come from tokenizer_config.json first', async () => {
    const folder = folderWith({
      'tokenizer_config.json': { bos_token: '[BEGIN]', eos_token: { content: '[END]' } },
      'config.json': { bos_token_id: 0, eos_token_id: 1 },
    })
    expect(await Tokenizer.load(folder)).toMatchObject({ bosTokenId: 2, eosTokenId: 3 })
  })

  it('then from config.json, the first of a list', async () => {
    expect(
      await Tokenizer.load(folderWith({ 'config.json': { bos_token_id: 2, eos_token_id: [3, 1] } })),
    ).toMatchObject({ bosTokenId: 2, eosTokenId: 3 })
  })

  it('else there are none', async () => {
    expect(await Tokenizer.load(folderWith({}))).toMatchObject({ bosTokenId: null, eosTokenId: null, vocabSize: 4 })
  })

  it('travel with a saved tokenizer', async () => {
    const tokenizer = await Tokenizer.load(folderWith({ 'tokenizer_config.json': { eos_token: '[END]' } }))
    const copy = mkdtempSync(join(tmpdir(), 'mor-tokenizer-'))
    await tokenizer.save(copy)
    const loaded = await Tokenizer.load(copy)
    expect(loaded).toMatchObject({ eosTokenId: 3, fingerprint: tokenizer.fingerprint })
    await loaded.save(copy)
    expect([...(await Tokenizer.load(join(copy, 'tokenizer.json'))).encode('whale sea')]).toEqual([1, 0])
  })
})

it('an added token far above the others leaves the least vocabulary as it is', async () => {
  const plain = folderWith({})
  const json = JSON.parse(readFileSync(join(plain, 'tokenizer.json'), 'utf8'))
  json.added_tokens.push({ ...json.added_tokens[0], id: 600, content: '[PAD]' })
  const tokenizer = await Tokenizer.load(folderWith({ 'tokenizer.json': json }))
  expect(tokenizer).toMatchObject({ vocabSize: 601, minVocabSize: (await Tokenizer.load(plain)).minVocabSize })
})

it('files with a byte order mark are read like those without', async () => {
  const mark = (content: object) => `\ufeff${JSON.stringify(content)}`
  const plain = folderWith({})
  const json = JSON.parse(readFileSync(join(plain, 'tokenizer.json'), 'utf8'))
  const folder = folderWith({
    'tokenizer.json': mark(json),
    'tokenizer_config.json': mark({ bos_token: '[BEGIN]' }),
    'generation_config.json': mark({}),
    'config.json': mark({ eos_token_id: 3 }),
  })
  expect(await Tokenizer.load(folder)).toMatchObject({ bosTokenId: 2, eosTokenId: 3 })
  await Tokenizer.byteLevel().save(folder)
  const path = join(folder, 'tokenizer.json')
  writeFileSync(path, `\ufeff${readFileSync(path, 'utf8')}`)
  expect(await Tokenizer.load(folder)).toBe(Tokenizer.byteLevel())
})

describe('bad files', () => {
  it.each([
    ['no such folder', () => '/nowhere/tokenizer.json', 'CHECKPOINT_MISSING', '/nowhere/tokenizer.json'],
    [
      'a folder without one',
      () => mkdtempSync(join(tmpdir(), 'mor-tokenizer-')),
      'CHECKPOINT_MISSING',
      'tokenizer.json',
    ],
    ['half a file', () => folderWith({ 'tokenizer.json': '{"model": {' }), 'CHECKPOINT_INVALID', 'is not JSON'],
    [
      'another kind of JSON',
      () => folderWith({ 'tokenizer.json': { hello: 1 } }),
      'CHECKPOINT_INVALID',
      'no model.vocab',
    ],
    [
      'an unknown model type',
      () => folderWith({ 'tokenizer.json': { model: { type: 'Riddle', vocab: {} } } }),
      'CHECKPOINT_INVALID',
      'cannot make a tokenizer',
    ],
    [
      'a special token it lacks',
      () => folderWith({ 'tokenizer_config.json': { eos_token: '<eot>' } }),
      'CHECKPOINT_INVALID',
      'eos_token is "<eot>"',
    ],
  ])('%s', async (_, path, code, message) => {
    await expect(Tokenizer.load(path())).rejects.toMatchObject({
      name: 'MorError',
      code,
      message: expect.stringContaining(message),
    })
  })
})
