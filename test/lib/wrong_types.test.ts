// Values of a wrong type, which only JavaScript can give: each is named with what belongs there, and nothing is begun.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { Engine } from '../../lib/engine.js'
import { Model } from '../../lib/model.js'
import { Tokenizer } from '../../lib/tokenizer.js'
import { Trainer } from '../../lib/trainer.js'
import { FakeAddon } from './fake_addon.js'
import { tokenizerFolder } from './tokenizer/families.js'

const addon = new FakeAddon()
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))
const folder = mkdtempSync(join(tmpdir(), 'mor-wrong-types-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const config = {
  vocab_size: 300,
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 2,
}
const refused = (message: RegExp) =>
  expect.objectContaining({ name: 'MorError', code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) })
const wrongPaths = [5, null, undefined, {}, '', 'a\0b'] as string[]

describe('a path', () => {
  it.each(wrongPaths)('is not %j', async (path) => {
    await using model = await Model.create(config)
    await using trainer = new Trainer(model, { learningRate: 1 })
    const huggingFace = await Tokenizer.load(tokenizerFolder('llama'))
    const message = /it must be a path: a text that is neither empty nor holds NUL/
    await expect(Model.load(path)).rejects.toEqual(refused(message))
    await expect(model.save(path)).rejects.toEqual(refused(message))
    await expect(Trainer.resume(path)).rejects.toEqual(refused(message))
    await expect(Trainer.fromCheckpoint(path, { learningRate: 1 })).rejects.toEqual(refused(message))
    await expect(trainer.save(path)).rejects.toEqual(refused(message))
    await expect(Tokenizer.load(path)).rejects.toEqual(refused(message))
    await expect(Tokenizer.byteLevel().save(path)).rejects.toEqual(refused(message))
    await expect(huggingFace.save(path)).rejects.toEqual(refused(message))
  })
})

describe('a text', () => {
  it('is nothing else', async () => {
    for (const tokenizer of [Tokenizer.byteLevel(), await Tokenizer.load(tokenizerFolder('llama'))]) {
      expect(() => tokenizer.encode(5 as never)).toThrow(refused(/encode: the text is 5; it must be a text/))
      await expect(tokenizer.encodeBatch(5 as never)).rejects.toEqual(
        refused(/texts is 5; it must be an array of texts/),
      )
      await expect(tokenizer.encodeBatch(['a', null] as never)).rejects.toEqual(
        refused(/texts\[1\] is null; it must be/),
      )
    }
  })
})

describe('a model and a tokenizer', () => {
  it('are what the package makes', async () => {
    await using model = await Model.create(config)
    const message = /the model is .*; give what Model.create or Model.load resolves to/
    for (const wrong of [5, null, {}, 'folder']) {
      expect(() => new Engine(wrong as never)).toThrow(refused(message))
      expect(() => new Trainer(wrong as never, { learningRate: 1 })).toThrow(refused(message))
    }
    expect(() => new Engine(model, { tokenizer: 'folder' as never })).toThrow(
      refused(/Engine: tokenizer is "folder"; give Tokenizer.byteLevel\(\) or what Tokenizer.load resolves to/),
    )
  })
})
