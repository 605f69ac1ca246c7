// The demo's book: chapters in the order of their numbers, fetched once.
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { bringBook, readChapters } from '../../../lib/cli/book.js'

describe('the book', () => {
  it('has its chapters in order, and nothing else', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mor-book-'))
    for (const name of ['chapter_10.txt', 'chapter_2.txt', 'chapter_1.txt', 'chapter_1.json', 'contents.txt'])
      writeFileSync(join(folder, name), name)
    expect(await readChapters(folder)).toEqual(['chapter_1.txt', 'chapter_2.txt', 'chapter_10.txt'])
  })

  it('without chapters is refused', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mor-book-'))
    await expect(readChapters(folder)).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining('chapter_1.txt'),
    })
  })

  it('is not fetched where it is', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mor-book-'))
    writeFileSync(join(folder, 'moby-dick.jsonl'), '{"text":"Call me Ishmael."}\n')
    expect(await bringBook(folder)).toBe(join(folder, 'moby-dick.jsonl'))
  })
})
