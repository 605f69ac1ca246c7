// Examples with solved ones before them: no example gives its own answer away.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { readExamples } from '../../../lib/evaluation/examples.js'

const folder = mkdtempSync(join(tmpdir(), 'mor-examples-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

it.each([
  ['left out', undefined],
  ['the path of the task', (path: string) => path],
  ['the same by another path', (path: string) => relative('', path)],
])('an example is never its own where the file of solved ones is %s', async (_, fewShotData) => {
  const data = join(folder, 'a.jsonl')
  const examples = Array.from({ length: 4 }, (_, i) => ({ context: `question ${i}`, continuation: `answer ${i}` }))
  writeFileSync(data, examples.map((example) => JSON.stringify(example)).join('\n'))
  const task = { name: 'a', type: 'last_word', data, fewShot: 3 } as const
  const read = await readExamples({ ...task, ...(fewShotData && { fewShotData: fewShotData(data) }) })
  for (const [i, { context }] of read.entries()) {
    expect(context).not.toContain(`answer ${i}`)
    expect(context.match(/answer/g)).toHaveLength(3)
  }
})
