// What is said of folders that are not there or not whole, and of files that are given in place of a folder.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Model } from '../../lib/model.js'
import { buildSafetensorsHeader } from '../../lib/safetensors.js'
import { Trainer } from '../../lib/trainer.js'
import { FakeAddon } from './fake_addon.js'
import { vanilla } from './tiny_checkpoint.js'

let addon: FakeAddon
vi.mock('../../lib/native_loader.js', () => ({ loadNative: () => addon }))

let folder: string
beforeEach(() => {
  addon = new FakeAddon()
  folder = mkdtempSync(join(tmpdir(), 'mor-checkpoint-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const weightsPath = () => join(folder, 'model.safetensors')
const configPath = () => join(folder, 'config.json')

describe('a file in place of a folder', () => {
  it.each<[string, string | Uint8Array, RegExp]>([
    [
      'model.gguf',
      'GGUF\u0003\u0000\u0000\u0000',
      /model.gguf is a GGUF file, which is not read: give the Hugging Face folder/,
    ],
    ['model.safetensors', buildSafetensorsHeader([]), /is a safetensors file: give the folder that holds it and its/],
    ['config.json', '{}', /config.json is a file: give the folder of the checkpoint, .* perhaps/],
  ])('%s', async (name, content, message) => {
    const path = join(folder, name)
    writeFileSync(path, content)
    const failing = (reason: RegExp) => ({ code: 'CHECKPOINT_INVALID', message: expect.stringMatching(reason) })
    // A whole one is a checkpoint, but none of a training run.
    const loading =
      name === 'model.gguf' ? /model.gguf is a GGUF file that is truncated: .* after its 8 bytes/ : message
    await expect(Model.load(path)).rejects.toMatchObject(failing(loading))
    await expect(Trainer.resume(path)).rejects.toMatchObject(failing(message))
  })

  it('is told where the file stands in for weights', async () => {
    await (await Model.create(vanilla)).save(folder)
    writeFileSync(weightsPath(), 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1000\n')
    await expect(Model.load(folder)).rejects.toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: expect.stringMatching(/model.safetensors is a pointer of Git LFS.*git lfs pull/),
    })
  })
})

describe('folders that are not there or not whole', () => {
  it.each<[string, () => void, string, RegExp]>([
    [
      'no folder',
      () => rmSync(folder, { recursive: true }),
      'CHECKPOINT_MISSING',
      /config.json is missing: is this the folder/,
    ],
    ['no config', () => undefined, 'CHECKPOINT_MISSING', /config.json is missing/],
    [
      'a GGUF file alone',
      () => writeFileSync(join(folder, 'model-Q8_0.gguf'), ''),
      'CHECKPOINT_MISSING',
      /config.json is missing: the folder holds model-Q8_0.gguf: give that file itself/,
    ],
    [
      'an adapter',
      () => writeFileSync(join(folder, 'adapter_config.json'), '{}'),
      'CHECKPOINT_MISSING',
      /the folder holds an adapter, which is no whole model/,
    ],
    [
      'a run',
      () => writeFileSync(join(folder, 'run.json'), '{}'),
      'CHECKPOINT_MISSING',
      /the folder is a run of mor train: give the folder "checkpoint" in it/,
    ],
    [
      'a cache',
      () => mkdirSync(join(folder, 'snapshots')),
      'CHECKPOINT_MISSING',
      /a cache of Hugging Face: give one of the folders/,
    ],
    [
      'nothing',
      () => writeFileSync(configPath(), 'null'),
      'INVALID_CONFIG',
      /config.json is null; it must be an object/,
    ],
    ['a broken config', () => writeFileSync(configPath(), '{'), 'CHECKPOINT_INVALID', /config.json is not JSON/],
    [
      'a wrong config',
      () => writeFileSync(configPath(), '{"vocab_size": 1}'),
      'INVALID_CONFIG',
      /config.json: hidden_size is missing/,
    ],
    [
      'no weights',
      () => writeFileSync(configPath(), JSON.stringify(vanilla)),
      'CHECKPOINT_MISSING',
      /no weights: neither .*model.safetensors nor/,
    ],
    [
      'pickled weights',
      () => {
        writeFileSync(configPath(), JSON.stringify(vanilla))
        writeFileSync(join(folder, 'pytorch_model.bin'), '')
      },
      'CHECKPOINT_MISSING',
      /pytorch_model.bin is not read: save the model as safetensors first/,
    ],
  ])('%s', async (_, prepare, code, message) => {
    prepare()
    await expect(Model.load(folder)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    expect(addon.models).toHaveLength(0)
  })
})
