// A prompt from standard input: all of its text, and clear ends where there is none.
import { PassThrough, Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { readPrompt } from '../../../lib/cli/prompt_input.js'

const { signal } = new AbortController()

describe('a prompt from standard input', () => {
  it.each([
    ['Once upon a time', 'Once upon a time'],
    ['two lines\nand more\n', 'two lines\nand more'],
    ['an empty line\n\n', 'an empty line\n'],
    ['of Windows\r\n', 'of Windows'],
    ['', ''],
  ])('%j', async (input, prompt) => {
    expect(await readPrompt(Readable.from([Buffer.from(input)]), signal)).toBe(prompt)
  })

  it('keeps a character whole that comes in two parts', async () => {
    const bytes = Buffer.from('a😀')
    expect(await readPrompt(Readable.from([bytes.subarray(0, 3), bytes.subarray(3)]), signal)).toBe('a😀')
  })

  it('that is not UTF-8 is refused', async () => {
    await expect(readPrompt(Readable.from([Buffer.of(0xff)]), signal)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
  })

  it('that does not come is given up when the command is stopped', async () => {
    const controller = new AbortController()
    const reading = readPrompt(new PassThrough(), controller.signal)
    controller.abort('enough')
    await expect(reading).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' })
  })
})
