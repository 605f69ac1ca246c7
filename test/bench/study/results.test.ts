// The committed results of a study can be compared with each other.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { root } from '../../../bench/study/command_line.js'
import type { StudyResult } from '../../../bench/study/run.js'

describe.each(['quality', 'uptrain'])('results of the study of %s', (study) => {
  const folder = join(root, 'bench', study, 'results')
  const results = readdirSync(folder)
    .filter((file) => /^(?!knobs\.).*\.seed\d+\.json$/.test(file))
    .map((file) => ({ file, ...(JSON.parse(readFileSync(join(folder, file), 'utf8')) as StudyResult) }))

  test('are measured on the same held-out text in the same tokens', () => {
    // Nats per token over bits per byte is the number of bytes of a token, times ln 2, whatever the model.
    const bytesPerToken = results.map(({ file, heldOut }) => {
      const { loss, bitsPerByte } = heldOut.threshold.held_out!
      return `${(loss!.value / bitsPerByte!.value / Math.LN2).toFixed(6)} in ${file}`
    })
    const [first] = bytesPerToken[0]!.split(' ')
    expect(bytesPerToken.filter((one) => !one.startsWith(`${first} `))).toEqual([])
  })
})
