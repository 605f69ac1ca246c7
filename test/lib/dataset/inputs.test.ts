// Finding the files that arguments name.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { findInputs } from '../../../lib/dataset/inputs.js'

it('patterns become files in the order of their names, each once; paths and - stay', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mor-inputs-'))
  mkdirSync(join(folder, 'sub'))
  for (const name of ['b.txt', 'a.txt', 'c.md', 'sub/d.txt', '[x].txt']) writeFileSync(join(folder, name), 'x')
  const at = (...names: string[]) => names.map((name) => join(folder, name))
  expect(await findInputs(at('?.txt'))).toEqual(at('a.txt', 'b.txt'))
  expect(await findInputs(at('{b,a}.txt', 'c.md', 'a.txt'))).toEqual(at('a.txt', 'b.txt', 'c.md'))
  expect(await findInputs(at('**/d*'))).toEqual(at('sub/d.txt'))
  expect(await findInputs(['-', ...at('[x].txt', 'none.txt')])).toEqual(['-', ...at('[x].txt', 'none.txt')])
  await expect(findInputs(at('*.jsonl'))).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining('*.jsonl'),
  })
})
