// The tokens that are scored: those of the continuation, whatever the tokenizer puts around a prompt.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { encodeExample } from '../../../lib/evaluation/encode.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { tokenizerFolder } from '../tokenizer/families.js'

async function load(config: object) {
  const folder = tokenizerFolder('llama')
  writeFileSync(
    join(folder, 'tokenizer_config.json'),
    JSON.stringify({ bos_token: '<s>', eos_token: '</s>', ...config }),
  )
  return Tokenizer.load(folder)
}

/** The first token, what is scored of each continuation, and the last token of all. */
async function scored(tokenizer: Tokenizer, context: string, continuations: string[]) {
  const example = { where: 'a.jsonl:1', context, continuations, choices: continuations, gold: 0 }
  const encoded = await encodeExample(tokenizer, example, undefined)
  return encoded.map(({ tokens, from }) => ({
    first: tokens[0],
    scored: tokenizer.decode(tokens.slice(from), { skipSpecialTokens: false }).trim(),
  }))
}

describe.each([
  ['nothing', { add_bos_token: false }, expect.any(Number)],
  ['a begin token', { add_bos_token: true }, 1],
  ['a begin and an end token', { add_bos_token: true, add_eos_token: true }, 1],
  ['an end token', { add_bos_token: false, add_eos_token: true }, expect.any(Number)],
])('with %s around a prompt', (_, config, first) => {
  it('scores the continuations of a context', async () => {
    expect(await scored(await load(config), 'Once upon', [' a', ' a time'])).toEqual([
      { first, scored: 'a' },
      { first, scored: 'a time' },
    ])
  })

  it('scores a whole text behind a begin token where there is no context', async () => {
    expect(await scored(await load(config), '', ['Once upon'])).toEqual([{ first: 1, scored: 'Once upon' }])
  })

  it('refuses a continuation without a token', async () => {
    await expect(scored(await load(config), 'Once upon', [''])).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/^a.jsonl:1: "" adds no token to the context, /),
    })
  })
})
