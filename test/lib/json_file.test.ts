// JSON files as editors and other programs leave them, and files of other formats in their place.
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readJsonFile, readOptionalJsonFile } from '../../lib/json_file.js'
import { buildSafetensorsHeader } from '../../lib/safetensors.js'

const folder = mkdtempSync(join(tmpdir(), 'mor-json-'))
const path = join(folder, 'config.json')

function read(content: string | Uint8Array): Promise<unknown> {
  writeFileSync(path, content)
  return readJsonFile(path)
}

it('reads a file with a byte order mark as without one', async () => {
  expect(await read('{"a": "é"}')).toEqual({ a: 'é' })
  expect(await read('\ufeff{"a": "é"}')).toEqual({ a: 'é' })
  expect(await read('\ufeff {"\ufeffa": "\ufeff"}')).toEqual({ '\ufeffa': '\ufeff' })
})

it('tells a file that is missing', async () => {
  await expect(readJsonFile(join(folder, 'none.json'))).rejects.toMatchObject({ code: 'CHECKPOINT_MISSING' })
  await expect(readJsonFile(join(path, 'config.json'))).rejects.toMatchObject({ code: 'CHECKPOINT_MISSING' })
  expect(await readOptionalJsonFile(join(folder, 'none.json'))).toBeUndefined()
  await expect(readOptionalJsonFile(folder)).rejects.toMatchObject({ code: 'IO_ERROR' })
})

describe('is not JSON', () => {
  it.each<[string, string | Uint8Array, RegExp]>([
    ['text', 'a: 1', /config.json is not JSON: /],
    ['nothing', '', /config.json is not JSON: /],
    ['bytes', Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d), /config.json is not JSON: its bytes are not UTF-8/],
    ['UTF-16', Buffer.from('\ufeff{}', 'utf16le'), /config.json is text in UTF-16: save it as UTF-8/],
    ['a GGUF file', 'GGUF\u0003\u0000\u0000\u0000', /is a GGUF file, which is not read: give the Hugging Face folder/],
    ['a safetensors file', buildSafetensorsHeader([]), /is a safetensors file: give the folder that holds it/],
    ['a zip archive', 'PK\u0003\u0004', /is a PyTorch file, which is not read/],
    ['a pickle', Uint8Array.of(0x80, 2, 0x8a), /is a PyTorch file, which is not read/],
    ['a pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', /pointer of Git LFS.*git lfs pull/],
    ['a page', '\n<!DOCTYPE html><html>', /is a web page: download the file itself/],
    ['a key that is there twice', '{"a": {"x": 1, "x": 2}}', /holds the key "x" twice in one object: leave one out/],
  ])('%s', async (_, content, message) => {
    await expect(read(content)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(message),
    })
  })
})
