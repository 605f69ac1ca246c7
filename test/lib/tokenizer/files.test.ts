// Saving a tokenizer: what it consists of comes along, and nothing of the one before is left.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { findTokenizerFiles, writeTokenizerFiles } from '../../../lib/tokenizer/files.js'
import { Tokenizer } from '../../../lib/tokenizer.js'
import { tokenizerFolder } from './families.js'

const newFolder = () => mkdtempSync(join(tmpdir(), 'mor-tokenizer-'))
const filesOf = (folder: string) => readdirSync(folder).sort()

it('takes along what lies beside it and belongs to it', async () => {
  const beside = { 'tokenizer_config.json': { add_bos_token: false }, 'chat_template.jinja': '{{ messages }}' }
  const source = tokenizerFolder('llama', {}, { ...beside, 'config.json': {}, 'notes.txt': 'mine' })
  const target = newFolder()
  const tokenizer = await Tokenizer.load(source)
  await tokenizer.save(target)
  expect(filesOf(target)).toEqual(['chat_template.jinja', 'tokenizer.json', 'tokenizer_config.json'])
  expect(readFileSync(join(target, 'chat_template.jinja'), 'utf8')).toBe('{{ messages }}')
  expect([...(await Tokenizer.load(target)).encode('a')]).toEqual([...tokenizer.encode('a')])
  await (await Tokenizer.load(target)).save(target)
  expect(filesOf(target)).toHaveLength(3)
})

it('replaces another tokenizer, and leaves other files alone', async () => {
  for (const tokenizer of [Tokenizer.byteLevel(), await Tokenizer.load(tokenizerFolder('byteLevel'))]) {
    const beside = { 'tokenizer_config.json': { bos_token: '<s>' }, 'special_tokens_map.json': {}, 'notes.txt': 'mine' }
    const target = tokenizerFolder('llama', {}, beside)
    await tokenizer.save(target)
    expect(filesOf(target)).toEqual(['notes.txt', 'tokenizer.json'])
    expect((await Tokenizer.load(target)).fingerprint).toBe(tokenizer.fingerprint)
  }
})

it('makes the folder', async () => {
  const target = join(newFolder(), 'of', 'mine')
  await Tokenizer.byteLevel().save(target)
  expect(filesOf(target)).toEqual(['tokenizer.json'])
})

it('is found in a save that was interrupted', async () => {
  const target = newFolder()
  await Tokenizer.byteLevel().save(join(target, '.saved-x'))
  expect(await Tokenizer.load(target)).toBe(Tokenizer.byteLevel())
})

it('leaves what was there whole where it cannot be written', async () => {
  const file = join(newFolder(), 'file')
  writeFileSync(file, 'mine')
  for (const tokenizer of [Tokenizer.byteLevel(), await Tokenizer.load(tokenizerFolder('llama'))]) {
    await expect(tokenizer.save(file)).rejects.toMatchObject({ name: 'MorError', code: 'IO_ERROR' })
    await expect(tokenizer.save(join(file, 'x'))).rejects.toMatchObject({ code: 'IO_ERROR' })
  }
  expect(readFileSync(file, 'utf8')).toBe('mine')
})

describe('is saved as it was loaded', () => {
  const beside = { 'tokenizer_config.json': { add_bos_token: false }, 'chat_template.jinja': 'first' }
  const load = { 'a tokenizer': Tokenizer.load, 'the tokenizer of a model': findTokenizerFiles }

  it.each(Object.entries(load))('%s, though its files are gone', async (_, open) => {
    const source = tokenizerFolder('llama', {}, beside)
    const [tokenizer, target] = [await open(source), newFolder()]
    await writeTokenizerFiles(tokenizer!.filesFor(target), target)
    const { fingerprint } = await Tokenizer.load(target)
    rmSync(source, { recursive: true })
    await writeTokenizerFiles(tokenizer!.filesFor(target), target)
    expect(filesOf(target)).toEqual(['chat_template.jinja', 'tokenizer.json', 'tokenizer_config.json'])
    expect((await Tokenizer.load(target)).fingerprint).toBe(fingerprint)
  })

  it.each(Object.entries(load))('%s, though another one is in its place', async (_, open) => {
    const source = tokenizerFolder('llama', {}, beside)
    const { fingerprint } = await Tokenizer.load(source)
    const [tokenizer, target] = [await open(source), newFolder()]
    await Tokenizer.byteLevel().save(source)
    writeFileSync(join(source, 'chat_template.jinja'), 'second')
    await writeTokenizerFiles(tokenizer!.filesFor(target), target)
    expect((await Tokenizer.load(target)).fingerprint).toBe(fingerprint)
    expect(readFileSync(join(target, 'chat_template.jinja'), 'utf8')).toBe('first')
    expect(filesOf(target)).toContain('tokenizer_config.json')
  })
})
