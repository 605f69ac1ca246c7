// The real addon's models: what they compute, weights to files and back, and what creating one refuses. The addon must have
// been built.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import type { NativeRopeScaling } from '../../lib/native/config.js'
import {
  addon,
  addonFixture,
  configs,
  filesToRead,
  forward,
  forwardOptions,
  nativeConfig,
  slowConfig,
  tinyStep,
  writeFile,
} from './addon_support.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const { folder, newModel, newTrainer } = addonFixture()

/** What asking for a GPU of a high index throws on this machine. */
function noSuchGpu(): string {
  const gpus = addon.devices().filter(({ type }) => type === 'cuda')
  return gpus[0]!.id === 'cuda' ? gpus[0]!.code! : 'DEVICE_NOT_FOUND'
}

describe.each(Object.keys(configs) as (keyof typeof configs)[])('%s', (name) => {
  const config = nativeConfig(name)

  it('gives finite logits and a depth from 1 to N, the same whenever asked', async () => {
    const model = await newModel(config)
    const { logits, depths } = await forward(model)
    expect(logits).toHaveLength(24 * config.vocabSize)
    expect(logits.every(Number.isFinite)).toBe(true)
    expect([...depths].every((depth) => depth >= 1 && depth <= config.numRecursions)).toBe(true)
    if (config.router === null) expect(new Set(depths)).toEqual(new Set([config.numRecursions]))
    expect((await forward(model)).logits).toEqual(logits)
  })

  it.each([
    ['float32', 'F32'],
    ['bfloat16', 'BF16'],
  ] as const)('saves and loads %s weights bit for bit', async (dtype, fileDtype) => {
    const model = await newModel(config, dtype)
    const trainer = newTrainer(model)
    await tinyStep(trainer)
    const path = join(folder, `weights-${fileDtype}.safetensors`)
    await writeFile(model, model.parameters(), fileDtype, path)
    const loaded = await newModel(config, dtype, 2)
    await loaded.read(await filesToRead(path))
    const adjusted = config.router?.balancing === 'loss_free' || config.router?.selection === 'threshold'
    const rounded = adjusted && dtype === 'bfloat16' // what is float32 in the model is not in a BF16 file
    if (!rounded) expect((await forward(loaded)).logits).toEqual((await forward(model)).logits)
    const again = join(folder, 'again.safetensors')
    await writeFile(loaded, loaded.parameters(), fileDtype, again)
    expect(readFileSync(again).equals(readFileSync(path))).toBe(true)
  })
})

it('turns queries and keys by scaled frequencies', async () => {
  const config = nativeConfig('vanilla')
  const logits = async (ropeScaling: NativeRopeScaling | null, tokens: number[]) => {
    const model = await newModel({ ...config, ropeScaling })
    return (await model.forward(Int32Array.from(tokens), 1, tokens.length, forwardOptions)).logits
  }
  const [plain, linear] = [await logits(null, [3, 7, 5]), await logits({ type: 'linear', factor: 2 }, [3, 7, 5])]
  const first = config.vocabSize
  expect(linear.slice(0, first)).toEqual(plain.slice(0, first))
  expect(linear.slice(first)).not.toEqual(plain.slice(first))
  const llama3 = { type: 'llama3', factor: 2, lowFreqFactor: 1, highFreqFactor: 4 } as const
  // Every wavelength is far longer than a context of one token, and far shorter than one of 10^9.
  expect(await logits({ ...llama3, originalMaxPositionEmbeddings: 1 }, [3, 7, 5])).toEqual(linear)
  expect(await logits({ ...llama3, originalMaxPositionEmbeddings: 1e9 }, [3, 7, 5])).toEqual(plain)
})

describe('reading', () => {
  it('converts every file precision exactly as rounding says', async () => {
    const config = nativeConfig('vanilla')
    const values = [0, -0, 1, -2.5, 65504, 6.103515625e-5, 2 ** -24, -3 * 2 ** -24, 0.333251953125, Infinity]
    const count = config.hiddenSize
    const floats = Float32Array.from({ length: count }, (_, i) => values[i % values.length]!)
    const halfBits = [0, 0x8000, 0x3c00, 0xc100, 0x7bff, 0x0400, 0x0001, 0x8003, 0x3555, 0x7c00]
    const halves = Uint16Array.from({ length: count }, (_, i) => halfBits[i % halfBits.length]!)
    const path = join(folder, 'half.bin')
    writeFileSync(path, Buffer.concat([Buffer.alloc(3), Buffer.from(halves.buffer)])) // an odd offset is legal
    const model = await newModel(config)
    const tensor = { name: 'model.norm.weight', shape: [count] }
    await model.read([{ path, tensors: [{ name: tensor.name, dtype: 'F16', offset: 3, bytes: 2 * count }] }])
    const out = join(folder, 'norm.safetensors')
    await writeFile(model, [tensor], 'F32', out)
    const written = readFileSync(out).subarray(-4 * count)
    expect(written.equals(Buffer.from(floats.buffer))).toBe(true)
  })

  it('refuses before it changes anything: sizes, names, truncated and missing files', async () => {
    const model = await newModel(nativeConfig('vanilla'))
    const before = (await forward(model)).logits
    const path = join(folder, 'broken.safetensors')
    await writeFile(model, model.parameters(), 'F32', path)
    const files = await filesToRead(path)
    const tensors = files[0]!.tensors
    const last = tensors.at(-1)!
    await model.init(9)
    const other = (await forward(model)).logits
    const refused = async (changed: typeof tensors, code: string, message: RegExp, at = path) => {
      await expect(model.read([{ path: at, tensors: changed }])).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      })
      expect((await forward(model)).logits).toEqual(other)
    }
    await refused([...tensors.slice(0, -1), { ...last, bytes: last.bytes - 4 }], 'CHECKPOINT_INVALID', /\d+.*needs \d+/)
    await refused([...tensors, { ...last, name: 'nobody' }], 'CHECKPOINT_INVALID', /no tensor 'nobody'/)
    await refused(tensors, 'CHECKPOINT_MISSING', /does not exist/, join(folder, 'nowhere'))
    truncateSync(path, statSync(path).size - 1)
    await refused(tensors, 'CHECKPOINT_INVALID', /truncated/)
    expect(before).not.toEqual(other)
  })

  it('stops when its signal aborts', async () => {
    const model = await newModel(slowConfig)
    const path = join(folder, 'large.safetensors')
    await writeFile(model, model.parameters(), 'F32', path)
    const files = await filesToRead(path)
    const controller = new AbortController()
    const many = Array.from({ length: 200 }, () => files[0]!)
    const reading = model.read(many, controller.signal)
    controller.abort()
    await expect(reading).rejects.toMatchObject({ code: 'ABORTED' })
    await expect(model.read(files, controller.signal)).rejects.toMatchObject({ code: 'ABORTED' })
    await model.read(files, new AbortController().signal)
  })
})

describe('saving', () => {
  const fileOf = (name: string, text: string) => ({ name, head: [Buffer.from(text)], tensors: [] })

  it("says the system's reason and leaves no partial file", async () => {
    const model = await newModel(nativeConfig('vanilla'))
    const target = join(folder, 'partial')
    const tensors = model.parameters()
    const save = (name: string) =>
      model.save(target, [fileOf('whole', 'text'), { name, head: [new Uint8Array(8)], tensors }])
    await expect(save(join('no', 'folder'))).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringMatching(/cannot create .*No such file or directory/),
    })
    await expect(save('/dev/full')).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringMatching(/No space left on device; free some space/),
    })
    expect(existsSync('/dev/full')).toBe(true)
    await expect(
      model.save(target, [{ name: 'file', head: [], tensors: [{ name: 'nobody', dtype: 'F32' }] }]),
    ).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
    expect(existsSync(target)).toBe(false)
    expect(tensors.length).toBeGreaterThan(0)
  })

  it('leaves what was there, and nothing else, when it fails', async () => {
    const model = await newModel(nativeConfig('vanilla'))
    const target = join(folder, 'kept')
    await model.save(target, [fileOf('a', 'before')])
    mkdirSync(join(target, 'sub'))
    await expect(model.save(target, [fileOf('a', 'after'), fileOf('/dev/full', 'after')])).rejects.toThrow()
    expect(readdirSync(target).sort()).toEqual(['a', 'sub'])
    expect(readFileSync(join(target, 'a'), 'utf8')).toBe('before')
    writeFileSync(join(folder, 'file'), '')
    for (const wrong of [join(folder, 'file'), join(folder, 'file', 'x')]) {
      await expect(model.save(wrong, [fileOf('a', 'text')])).rejects.toMatchObject({ code: 'IO_ERROR' })
    }
  })

  it('keeps the files of concurrent saves together', async () => {
    const target = join(folder, 'concurrent')
    const save = async (text: string, large: boolean) => {
      const model = await newModel(large ? slowConfig : nativeConfig('vanilla'))
      const between = { name: 'weights', head: [], tensors: model.parameters() }
      for (let i = 0; i < 5; i++) await model.save(target, [fileOf('a', text), between, fileOf('b', text)])
    }
    await Promise.all([save('1', true), save('2', false), save('3', false)])
    expect(readFileSync(join(target, 'a'), 'utf8')).toBe(readFileSync(join(target, 'b'), 'utf8'))
    expect(readdirSync(target).sort()).toEqual(['a', 'b', 'weights'])
  })

  it('removes the shards that the new weights replace, and their index', async () => {
    const model = await newModel(nativeConfig('vanilla'))
    const target = join(folder, 'sharded')
    const names = ['m-1.safetensors', 'm-2.safetensors', 'adapter.safetensors', 'm.json', 'm.safetensors']
    mkdirSync(target)
    for (const name of names) writeFileSync(join(target, name), 'before')
    const weight_map = {
      a: 'm-1.safetensors',
      b: 'm-2.safetensors',
      c: 'gone.safetensors',
      d: 'm.json',
      e: 'm.safetensors',
    }
    writeFileSync(join(target, 'index.json'), JSON.stringify({ weight_map }))
    const save = (last: string) =>
      model.save(target, [{ ...fileOf('m.safetensors', 'after'), replaces: 'index.json' }, fileOf(last, 'after')])
    await expect(save('/dev/full')).rejects.toMatchObject({ code: 'IO_ERROR' })
    expect(readdirSync(target).sort()).toEqual([...names, 'index.json'].sort())
    await save('a')
    expect(readdirSync(target).sort()).toEqual(['a', 'adapter.safetensors', 'm.json', 'm.safetensors'])
    expect(readFileSync(join(target, 'm.safetensors'), 'utf8')).toBe('after')
    await save('a')
  })

  it('says so where what is replaced cannot be removed, and keeps the index', async () => {
    const model = await newModel(nativeConfig('vanilla'))
    const target = join(folder, 'stuck')
    mkdirSync(join(target, 'shard.safetensors', 'sub'), { recursive: true })
    writeFileSync(join(target, 'index.json'), '"shard.safetensors"')
    await expect(
      model.save(target, [{ ...fileOf('m.safetensors', 'after'), replaces: 'index.json' }]),
    ).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringMatching(
        /the save is complete, but cannot remove .*shard.safetensors: Directory not empty/,
      ),
    })
    expect(readdirSync(target).sort()).toEqual(['index.json', 'm.safetensors', 'shard.safetensors'])
  })

  it('leaves other files of the folder alone', async () => {
    const model = await newModel(nativeConfig('vanilla'))
    const target = join(folder, 'others')
    mkdirSync(join(target, 'sub'), { recursive: true })
    writeFileSync(join(target, 'keep'), 'kept')
    await model.save(target, [fileOf('a', 'new')])
    expect(readdirSync(target).sort()).toEqual(['a', 'keep', 'sub'])
    expect(readFileSync(join(target, 'keep'), 'utf8')).toBe('kept')
    expect(readFileSync(join(target, 'a'), 'utf8')).toBe('new')
  })
})

describe('parameterTable', () => {
  it.each(Object.keys(configs) as (keyof typeof configs)[])('is what a model of %s holds', async (name) => {
    const config = nativeConfig(name)
    for (const dtype of ['float32', 'bfloat16'] as const) {
      const table = addon.parameterTable(config, dtype)
      const model = await newModel(config, dtype)
      expect(table).toEqual(model.parameters())
      for (const { name, shape, role, layer, dtype, bytes, decays, trained } of table) {
        expect(bytes, name).toBe(shape.reduce((product, extent) => product * extent) * (dtype === 'F32' ? 4 : 2))
        expect(layer, name).toBe(name.startsWith('model.layers.') ? Number(name.split('.')[2]) : null)
        expect(role === 'norm', name).toBe(name.includes('norm'))
        expect(decays, name).toBe(shape.length === 2)
        expect(trained, name).toBe(!/balancing_bias|thresholds/.test(name))
      }
    }
  })

  it('needs no memory for the weights and refuses what no memory holds', () => {
    const config = { ...nativeConfig('vanilla'), vocabSize: 2 ** 31 - 1, hiddenSize: 2 ** 16 }
    expect(addon.parameterTable(config, 'bfloat16')[0]).toMatchObject({
      role: 'embedding',
      bytes: (2 ** 31 - 1) * 2 ** 17,
    })
    const refused = {
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/embed_tokens.weight take more than 9007199 GB/),
    }
    expect(() => addon.parameterTable({ ...config, hiddenSize: 2 ** 31 - 2 }, 'bfloat16')).toThrow(
      expect.objectContaining(refused),
    )
    expect(() => addon.parameterTable({ ...config, numHiddenLayers: 2 ** 31 - 1 }, 'bfloat16')).toThrow(
      /num_hidden_layers must be at most 65536, got 2147483647/,
    )
    expect(() => addon.parameterTable({ ...config, numAttentionHeads: 2 ** 30 }, 'bfloat16')).toThrow(/is too wide/)
  })
})

describe('bad input', () => {
  const config = nativeConfig('expert choice')
  const options = { device: 'cpu', dtype: 'float32', threads: 0, nice: 5 } as const

  it.each<[string, unknown, unknown, string, RegExp]>([
    ['no config', undefined, options, 'INVALID_CONFIG', /config must be an object, got undefined/],
    ['a float', { ...config, hiddenSize: 1.5 }, options, 'INVALID_CONFIG', /hiddenSize must be an integer .* got 1.5/],
    [
      'a wrong name',
      { ...config, sharing: 'x' },
      options,
      'INVALID_CONFIG',
      /sharing must be one of 'cycle'.* got 'x'/,
    ],
    ['depth', { ...config, numHiddenLayers: 6 }, options, 'INVALID_CONFIG', /6 .*nearest valid depths: 5 and 8/],
    ['NaN', { ...config, ropeTheta: Number.NaN }, options, 'INVALID_CONFIG', /ropeTheta must be a number .* got nan/],
    ['dtype', config, { ...options, dtype: 'int8' }, 'INVALID_ARGUMENT', /dtype must be one of .*got 'int8'/],
    ['device', config, { ...options, device: 'tpu' }, 'INVALID_ARGUMENT', /unknown device 'tpu'/],
    ['no GPU', config, { ...options, device: 'cuda:7' }, noSuchGpu(), /device 'cuda:7'/],
    ['size', { ...config, vocabSize: 2 ** 31 - 1, hiddenSize: 2 ** 31 - 2 }, options, 'OUT_OF_MEMORY', /GB/],
  ])('createModel with %s', async (_, badConfig, badOptions, code, message) => {
    await expect(addon.createModel(badConfig as never, badOptions as never)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })
})
