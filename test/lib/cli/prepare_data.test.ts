// When a dataset that is there is what the same command would make.
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { isUpToDate } from '../../../lib/cli/prepare_data.js'
import { buildDataset } from '../../../lib/dataset.js'
import { Tokenizer } from '../../../lib/tokenizer.js'

it('a dataset is made again where anything that decides its tokens has changed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mor-prepare-'))
  const [text, other, out] = ['text.txt', 'other.txt', 'out'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  writeFileSync(text, 'a line of text\n'.repeat(20))
  writeFileSync(other, 'another line\n'.repeat(20))
  const tokenizer = Tokenizer.byteLevel()
  // As a tokenizer_config.json names another end token, beside the same tokenizer.json.
  const otherEnd: Tokenizer = Object.create(tokenizer, { eosTokenId: { value: 10 } })
  const options = { data: [text], tokenizer, textField: 'text', validationFraction: 0.1 }
  expect(await isUpToDate(options, out)).toBe(false)
  await buildDataset([text], out, { tokenizer, validationFraction: 0.1 })
  expect(await isUpToDate(options, out)).toBe(true)
  for (const change of [
    { tokenizer: otherEnd },
    { data: [other] },
    { data: [text, other] },
    { validationFraction: 0.2 },
    { textField: 'body' },
    { length: 8 },
    { format: 'text' as const },
  ]) {
    expect(await isUpToDate({ ...options, ...change }, out), JSON.stringify(Object.keys(change))).toBe(false)
  }
})
