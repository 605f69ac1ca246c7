// Begin and end tokens: where their ids come from, whether a text gets them, and what an empty prompt starts from.
import { describe, expect, it, vi } from 'vitest'
import { startOf } from '../../../lib/tokenizer/start.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { type Family, families, tokenizerFolder } from './families.js'

const load = (family: Family, changes: object, files: Record<string, unknown>) =>
  Tokenizer.load(tokenizerFolder(family, changes, files))

describe('the ids', () => {
  it('of generation_config.json come before those of config.json, and after the names of tokenizer_config.json', async () => {
    const files = {
      'generation_config.json': { bos_token_id: 5, eos_token_id: [6, 7] },
      'config.json': { bos_token_id: 8, eos_token_id: 9 },
    }
    expect(await load('llama', {}, files)).toMatchObject({ bosTokenId: 5, eosTokenId: 6 })
    const named = { ...files, 'tokenizer_config.json': { bos_token: '</s>' } }
    expect(await load('llama', {}, named)).toMatchObject({ bosTokenId: 2, eosTokenId: 6 })
  })

  it('that tokenizer and model name differently are warned of', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const named = { bos_token: '<s>', eos_token: '</s>' }
    const files = (config: object, generation: object) => ({
      'tokenizer_config.json': named,
      'config.json': config,
      'generation_config.json': generation,
    })
    expect(await load('llama', {}, files({ eos_token_id: 7 }, { eos_token_id: [5, 2] }))).toMatchObject({
      eosTokenId: 2,
    })
    await load('llama', {}, files({ bos_token_id: 1 }, { bos_token_id: null }))
    expect(warn).not.toHaveBeenCalled()
    await load('llama', {}, files({ bos_token_id: 3, eos_token_id: [5, 6] }, {}))
    expect(warn.mock.calls.map(([message]) => message)).toEqual([
      expect.stringMatching(
        /config.json: bos_token_id is 3, but tokenizer_config.json has bos_token "<s>", which is 1: an empty/,
      ),
      expect.stringMatching(
        /config.json: eos_token_id is \[5,6\], but .* eos_token "<\/s>", which is 2: generation stops at/,
      ),
    ])
    warn.mockRestore()
  })

  it('are not named by an empty text', async () => {
    const files = {
      'tokenizer_config.json': { bos_token: '', eos_token: { content: '' } },
      'config.json': { eos_token_id: 7 },
    }
    expect(await load('wordPiece', {}, files)).toMatchObject({ bosTokenId: null, eosTokenId: 7 })
  })

  it('are no guess where a marker of a chat could be the begin token', async () => {
    const chat = ['<|endoftext|>', '<|im_start|>'].map((content, i) => ({ id: 256 + i, content, special: true }))
    expect(await load('byteLevel', { added_tokens: chat }, {})).toMatchObject({ bosTokenId: null, eosTokenId: 256 })
  })
})

describe('what a text gets', () => {
  const { post_processor: template } = families.llama
  const withEnd = { ...template, single: [...template.single, { SpecialToken: { id: '</s>', type_id: 0 } }] }
  const around = async (post_processor: object | null, tokenizerConfig: object) => {
    const tokenizer = await load('llama', { post_processor }, { 'tokenizer_config.json': tokenizerConfig })
    const [bare, whole] = [tokenizer.encode('a', { addSpecialTokens: false }), tokenizer.encode('a')]
    const empty = [...tokenizer.encode('')]
    return [[...whole].join(' ').replace([...bare].join(' '), 'a'), empty.join(' ')]
  }

  it.each([
    ['the template', template, {}, '1 a', '1'],
    ['the template and its end', withEnd, {}, '1 a 2', '1 2'],
    ['nothing without one', null, {}, 'a', ''],
    ['no begin token where it is switched off', template, { add_bos_token: false }, 'a', ''],
    ['no end token where it is switched off', withEnd, { add_eos_token: false }, '1 a', '1'],
    ['neither', withEnd, { add_bos_token: false, add_eos_token: false }, 'a', ''],
    ['a begin token without a template', null, { add_bos_token: true }, '1 a', '1'],
    ['both without a template', null, { add_bos_token: true, add_eos_token: true }, '1 a 2', '1 2'],
    ['one begin token, not two', template, { add_bos_token: true }, '1 a', '1'],
    ['what the template has where nothing is said', withEnd, { add_bos_token: null }, '1 a 2', '1 2'],
  ])('%s', async (_, postProcessor, tokenizerConfig, whole, empty) => {
    expect(await around(postProcessor, tokenizerConfig)).toEqual([whole, empty])
  })

  it('is found in a sequence of post-processors, as Llama 3 has it', async () => {
    const sequence = { type: 'Sequence', processors: [families.byteLevel.post_processor, template] }
    expect(await around(sequence, {})).toEqual(['1 a', '1'])
    expect(await around(sequence, { add_bos_token: false })).toEqual(['a', ''])
  })

  it.each([
    [{ add_bos_token: true }, /tokenizer_config.json: add_bos_token is true, but no file names a bos_token/],
    [{ add_eos_token: 'yes' }, /tokenizer_config.json: add_eos_token is "yes"; it must be true or false/],
    [['a'], /tokenizer_config.json is \["a"\]; it must be an object/],
  ])('cannot be %j', async (tokenizerConfig, message) => {
    await expect(load('wordPiece', {}, { 'tokenizer_config.json': tokenizerConfig })).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(message),
    })
  })

  it('cannot be all that there is', async () => {
    const only = { ...template, single: template.single.slice(0, 1) }
    await expect(load('llama', { post_processor: only }, {})).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(/post_processor leaves out the text itself/),
    })
  })

  it('cannot be a token that is not there', async () => {
    const ghost = { ...template, single: [{ SpecialToken: { id: '<ghost>', type_id: 0 } }, ...template.single] }
    await expect(load('llama', { post_processor: ghost }, {})).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(/post_processor adds "<ghost>", which is not in the vocabulary/),
    })
  })
})

describe('an empty prompt', () => {
  const start = (bosTokenId: number | null, eosTokenId: number | null, ids: number[] = []) =>
    startOf(Int32Array.from(ids), { bosTokenId, eosTokenId })

  it('starts from the begin token, or else from the end token of a text before', () => {
    expect([...start(1, 2)!]).toEqual([1])
    expect([...start(0, 2)!]).toEqual([0])
    expect([...start(null, 2)!]).toEqual([2])
    expect(start(null, null)).toBeNull()
    expect([...start(1, 2, [7])!]).toEqual([7])
  })
})
