// Begin and end tokens of generation_config.json beside those of config.json: which count, and what is said where they differ.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { readConfigFile } from '../../lib/config_file.js'
import { published } from './published_configs.js'

const { bos_token_id: _, eos_token_id: __, ...llama } = published['SmolLM2-135M']
const folder = mkdtempSync(join(tmpdir(), 'mor-generation-config-'))
const warn = vi.spyOn(process, 'emitWarning')
beforeEach(() => {
  warn.mockImplementation(() => {})
})
afterEach(() => {
  warn.mockReset()
})

/** Begin and end tokens of a folder with these files. */
async function read(config: object, generation?: unknown) {
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...llama, ...config }))
  rmSync(join(folder, 'generation_config.json'), { force: true })
  if (generation !== undefined) writeFileSync(join(folder, 'generation_config.json'), JSON.stringify(generation))
  const { bos_token_id, eos_token_id } = await readConfigFile(folder)
  return [bos_token_id, eos_token_id]
}

describe('what counts', () => {
  it.each<[string, object, object | undefined, unknown[]]>([
    ['config.json alone', { bos_token_id: 4, eos_token_id: 5 }, undefined, [4, 5]],
    ['what Llama means by nothing', {}, undefined, [1, 2]],
    ['nothing where config.json says so', { bos_token_id: null, eos_token_id: null }, {}, [null, null]],
    ['generation_config.json alone', {}, { bos_token_id: 7, eos_token_id: [2, 432] }, [7, [2, 432]]],
    ['both, where they are the same', { eos_token_id: 3 }, { eos_token_id: 3 }, [1, 3]],
    ['more end tokens in generation_config.json', { eos_token_id: 3 }, { eos_token_id: [9, 3] }, [1, [9, 3]]],
    ['several in both', { eos_token_id: [9, 3] }, { eos_token_id: [3, 9] }, [1, [3, 9]]],
    ['config.json where the other says nothing', { eos_token_id: 3 }, { temperature: 0.6, eos_token_id: null }, [1, 3]],
  ])('%s', async (_, config, generation, expected) => {
    expect(await read(config, generation)).toEqual(expected)
    expect(warn).not.toHaveBeenCalled()
  })

  it('generation_config.json where config.json names others, and a warning says so', async () => {
    expect(await read({ bos_token_id: 4, eos_token_id: [2, 3] }, { bos_token_id: 5, eos_token_id: 2 })).toEqual([5, 2])
    const codes = warn.mock.calls.map(([, options]) => options)
    expect(codes).toEqual([{ code: 'MOR_CONFIG_CONFLICT' }, { code: 'MOR_CONFIG_CONFLICT' }])
    expect(warn.mock.calls.map(([message]) => message)).toEqual([
      expect.stringMatching(
        /generation_config.json: bos_token_id is 5, which counts, and 4 in config.json: make them equal/,
      ),
      expect.stringMatching(
        /generation_config.json: eos_token_id is 2, which counts, and \[2,3\] in config.json: make them equal/,
      ),
    ])
  })
})

describe('refused', () => {
  it.each<[string, unknown, string, RegExp]>([
    [
      'an id beyond the vocabulary',
      { eos_token_id: [2, 49152] },
      'INVALID_CONFIG',
      /generation_config.json: eos_.* 49152/,
    ],
    [
      'a begin token that is none',
      { bos_token_id: '<s>' },
      'INVALID_CONFIG',
      /generation_config.json: bos_token_id is "<s>"/,
    ],
    ['a list', [], 'CHECKPOINT_INVALID', /generation_config.json is \[\]; it must be an object/],
  ])('%s', async (_, generation, code, message) => {
    await expect(read({}, generation)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })
})
