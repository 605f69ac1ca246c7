// The real addon through the surface of lib/native.ts: numbers that fit together, files both ways, and objects that
// end at every moment. The addon must have been built.
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { errorCodes } from '../../lib/errors.js'
import type { DType, NativeConfig, NativeModel, NativeTrainer, SafetensorsFloat } from '../../lib/native.js'
import { eventKind, eventStride } from '../../lib/native.js'
import { buildSafetensorsHeader, readSafetensorsFile } from '../../lib/safetensors.js'
import {
  addon,
  configs,
  engineOptions,
  forwardOptions,
  generateParams,
  nativeConfig,
  patternTokens,
  slowConfig,
  slowLength,
  trainerOptions,
} from './addon_support.js'

// A machine may be busy with much else.
vi.setConfig({ testTimeout: 60_000 })

const folder = mkdtempSync(join(tmpdir(), 'mor-addon-'))
const open: { dispose(): void }[] = []
afterAll(() => {
  for (const object of open) object.dispose()
  rmSync(folder, { recursive: true })
})

async function newModel(config: NativeConfig, dtype: DType = 'float32', seed = 1): Promise<NativeModel> {
  const model = await addon.createModel(config, { device: 'cpu', dtype, threads: 0 })
  open.push(model)
  await model.init(seed)
  return model
}

async function newTrainer(model: NativeModel, options = trainerOptions): Promise<NativeTrainer> {
  const trainer = await addon.createTrainer(model, options)
  open.push(trainer)
  return trainer
}

const tinyStep = (trainer: NativeTrainer) => trainer.step(patternTokens(4 * 17), 2, 2, 16)
const slowStep = (trainer: NativeTrainer) => trainer.step(patternTokens(4 * (slowLength + 1)), 1, 4, slowLength)
const forward = (model: NativeModel) => model.forward(patternTokens(24), 2, 12, forwardOptions)

type Named = { name: string; shape: number[] }

async function writeFile(
  target: { write(path: string, header: Uint8Array, names: string[], dtypes: ('F32' | 'BF16')[]): Promise<void> },
  tensors: Named[],
  dtype: 'F32' | 'BF16',
  path: string,
): Promise<void> {
  const header = buildSafetensorsHeader(tensors.map(({ name, shape }) => ({ name, shape, dtype })))
  await target.write(
    path,
    header,
    tensors.map(({ name }) => name),
    tensors.map(() => dtype),
  )
}

async function filesToRead(path: string) {
  const { tensors } = await readSafetensorsFile(path)
  return [{ path, tensors: tensors.map((tensor) => ({ ...tensor, dtype: tensor.dtype as SafetensorsFloat })) }]
}

/** What asking for a GPU of a high index throws on this machine. */
function noSuchGpu(): string {
  const gpus = addon.devices().filter(({ type }) => type === 'cuda')
  return gpus[0]!.id === 'cuda' ? gpus[0]!.code! : 'DEVICE_NOT_FOUND'
}

describe('devices', () => {
  it('lists the CPU as usable', () => {
    const cpu = addon.devices().find(({ id }) => id === 'cpu')
    expect(cpu).toMatchObject({ type: 'cpu', usable: true })
    expect(cpu!.threads).toBeGreaterThan(0)
    expect(cpu!.memoryBytes).toBeGreaterThan(2 ** 28)
  })

  it('lists GPUs, or says why there is none', () => {
    const gpus = addon.devices().filter(({ type }) => type === 'cuda')
    expect(gpus).not.toHaveLength(0)
    for (const { id, usable, code, reason, memoryBytes, computeCapability } of gpus) {
      if (usable)
        expect([memoryBytes > 2 ** 30, computeCapability, code]).toEqual([true, expect.any(String), undefined])
      else expect([errorCodes.includes(code!), reason]).toEqual([true, expect.stringMatching(/device: 'cpu'/)])
      expect(id).toMatch(usable ? /^cuda:\d+$/ : /^cuda(:\d+)?$/)
    }
  })
})

describe.each(Object.keys(configs) as (keyof typeof configs)[])('%s', (name) => {
  const config = nativeConfig(name)

  it.each(['float32', 'bfloat16'] as const)('learns a pattern in %s', async (dtype) => {
    const model = await newModel(config, dtype)
    const trainer = await newTrainer(model)
    const first = await tinyStep(trainer)
    expect(first).toMatchObject({ step: 1, tokens: 64, learningRate: 0.01 })
    expect(first.lmLoss).toBeCloseTo(Math.log(config.vocabSize), 0)
    expect(first.depthHistogram).toHaveLength(config.numRecursions)
    expect(first.depthHistogram.reduce((sum, n) => sum + n, 0)).toBe(64)
    expect(first.routingAccuracy === null).toBe(config.router?.type !== 'expert_choice')
    expect(first.maxVio === null).toBe(config.router?.type !== 'token_choice')
    let last = first
    while (last.step < 30) last = await tinyStep(trainer)
    expect(last.lmLoss).toBeLessThan(first.lmLoss / 2)
    const evaluated = await trainer.evaluate(patternTokens(4 * 17), 4, 16, 'threshold')
    expect(evaluated.lmLoss).toBeLessThan(first.lmLoss / 2)
  })

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
    const trainer = await newTrainer(model)
    await tinyStep(trainer)
    const path = join(folder, `weights-${fileDtype}.safetensors`)
    await writeFile(model, model.parameters(), fileDtype, path)
    const loaded = await newModel(config, dtype, 2)
    await loaded.read(await filesToRead(path))
    const bias = config.router?.balancing === 'loss_free' && dtype === 'bfloat16' // rounded in a BF16 file
    if (!bias) expect((await forward(loaded)).logits).toEqual((await forward(model)).logits)
    const again = join(folder, 'again.safetensors')
    await writeFile(loaded, loaded.parameters(), fileDtype, again)
    expect(readFileSync(again).equals(readFileSync(path))).toBe(true)
  })

  it.each(['float32', 'bfloat16'] as const)('goes on from saved %s state bit for bit', async (dtype) => {
    const model = await newModel(config, dtype)
    const trainer = await newTrainer(model)
    for (let i = 0; i < 3; i++) await tinyStep(trainer)

    const { names, json } = trainer.state()
    const parameters = model.parameters()
    const hasMaster = new Set(names.map((tensor) => tensor.name))
    const weights = parameters.map(({ name, shape }) => ({
      name: hasMaster.has(`master.${name}`) ? `master.${name}` : name,
      shape,
    }))
    const write = (tensors: Named[], path: string) =>
      writeFile({ write: (...args) => trainer.write(args[0], args[1], args[2]) }, tensors, 'F32', path)
    const others = names.filter((tensor) => !tensor.name.startsWith('master.'))
    await write(weights, join(folder, 'masters.safetensors'))
    await write(others, join(folder, 'state.safetensors'))

    const resumed = await newModel(config, dtype, 2)
    const files = await filesToRead(join(folder, 'masters.safetensors'))
    const renamed = files[0]!.tensors.map((tensor) => ({ ...tensor, name: tensor.name.replace('master.', '') }))
    await resumed.read([{ path: files[0]!.path, tensors: renamed }])
    const second = await newTrainer(resumed)
    const masters = files[0]!.tensors.filter(({ name }) => name.startsWith('master.'))
    await second.read(
      [{ path: files[0]!.path, tensors: masters }, ...(await filesToRead(join(folder, 'state.safetensors')))],
      json,
    )
    expect(second.state().step).toBe(3)
    for (let i = 0; i < 2; i++) {
      const [{ seconds: _a, ...expected }, { seconds: _b, ...actual }] = [
        await tinyStep(trainer),
        await tinyStep(second),
      ]
      expect({ ...actual, memoryBytes: 0 }).toEqual({ ...expected, memoryBytes: 0 })
    }
    expect((await forward(resumed)).logits).toEqual((await forward(model)).logits)
  })
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

describe('writing', () => {
  it("says the system's reason and leaves no partial file", async () => {
    const model = await newModel(nativeConfig('vanilla'))
    const write = (path: string) => writeFile(model, model.parameters(), 'F32', path)
    await expect(write(join(folder, 'no', 'folder'))).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringMatching(/cannot create .*No such file or directory/),
    })
    await expect(write('/dev/full')).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringMatching(/No space left on device; free some space/),
    })
    expect(existsSync('/dev/full')).toBe(true)
    const path = join(folder, 'partial.safetensors')
    const parameters = model.parameters()
    await expect(model.write(path, new Uint8Array(8), ['nobody'], ['F32'])).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
    expect(existsSync(path)).toBe(false)
    expect(parameters.length).toBeGreaterThan(0)
  })
})

describe('bad input', () => {
  const config = nativeConfig('expert choice')
  const options = { device: 'cpu', dtype: 'float32', threads: 0 } as const

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

  it('calls of every method', async () => {
    const model = await newModel(config)
    const trainer = await newTrainer(model)
    const refused = (promise: Promise<unknown>, code: string, message: RegExp) =>
      expect(promise).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    const untyped = <T>(value: unknown) => value as T
    await refused(model.init(-1), 'INVALID_ARGUMENT', /seed must be an integer from 0 .* got -1/)
    await refused(model.forward(untyped([1]), 1, 1, forwardOptions), 'INVALID_ARGUMENT', /tokens must be an Int32Array/)
    await refused(
      model.forward(untyped(new Float64Array(1)), 1, 1, forwardOptions),
      'INVALID_ARGUMENT',
      /got a typed array of another type/,
    )
    await refused(model.forward(new Int32Array(5), 2, 3, forwardOptions), 'INVALID_ARGUMENT', /5 ids.* are 6/)
    await refused(model.forward(Int32Array.of(48), 1, 1, forwardOptions), 'TOKEN_OUT_OF_RANGE', /48 .*48/)
    await refused(model.forward(new Int32Array(33), 1, 33, forwardOptions), 'CONTEXT_OVERFLOW', /33 .*32/)
    await refused(trainer.step(new Int32Array(16), 1, 1, 16), 'INVALID_ARGUMENT', /16 ids.* are 17/)
    await refused(trainer.step(Int32Array.of(1, -1), 1, 1, 1), 'TOKEN_OUT_OF_RANGE', /-1/)
    await refused(trainer.evaluate(new Int32Array(2), 1, 1, untyped('x')), 'INVALID_ARGUMENT', /got 'x'/)
    await refused(trainer.read([], '{"step":'), 'CHECKPOINT_INVALID', /not JSON/)
    await refused(trainer.read([], '{"step":-1}'), 'CHECKPOINT_INVALID', /state.step must be an integer/)
    await refused(addon.createTrainer(untyped({}), trainerOptions), 'INVALID_ARGUMENT', /a model of this addon/)
    await refused(addon.createTrainer(untyped(trainer), trainerOptions), 'INVALID_ARGUMENT', /a model of this addon/)
    await refused(
      addon.createTrainer(model, { ...trainerOptions, beta2: 1 }),
      'INVALID_ARGUMENT',
      /beta2 must be a number from 0 to 1, got 1/,
    )
    expect(() => addon.createEngine(model, { ...engineOptions, maxBatchSize: 0 }, () => undefined)).toThrow(
      /maxBatchSize must be an integer from 1/,
    )
    expect(() => addon.createEngine(model, engineOptions, untyped(1))).toThrow(/onEvents/)
    expect(() => Reflect.construct(model.constructor as never, [])).toThrow(/come from its functions only/)
    expect(() => model.memory.call(untyped(trainer))).toThrow('Illegal invocation')
    await tinyStep(trainer)
  })

  it('refuses a step that is not finite and changes nothing', async () => {
    const model = await newModel(config)
    const trainer = await newTrainer(model)
    await tinyStep(trainer)
    const count = config.hiddenSize
    const path = join(folder, 'nan.bin')
    const norm = { name: 'model.norm.weight', shape: [count] }
    const good = join(folder, 'good-norm.safetensors')
    await writeFile(model, [norm], 'F32', good)
    writeFileSync(path, Buffer.from(new Float32Array(count).fill(Number.NaN).buffer))
    await model.read([{ path, tensors: [{ name: norm.name, dtype: 'F32', offset: 0, bytes: 4 * count }] }])
    await expect(tinyStep(trainer)).rejects.toMatchObject({ code: 'NON_FINITE' })
    expect(trainer.state().step).toBe(1)
    await model.read(await filesToRead(good))
    expect((await tinyStep(trainer)).step).toBe(2)
  })
})

describe('lifetime', () => {
  it('queues two steps at once', async () => {
    const trainer = await newTrainer(await newModel(nativeConfig('expert choice')))
    const steps = await Promise.all([tinyStep(trainer), tinyStep(trainer), tinyStep(trainer)])
    expect(steps.map(({ step }) => step)).toEqual([1, 2, 3])
  })

  it('disposes twice, and says so in every call after', async () => {
    const model = await newModel(nativeConfig('expert choice'))
    const trainer = await newTrainer(model)
    trainer.dispose()
    trainer.dispose()
    await expect(tinyStep(trainer)).rejects.toMatchObject({ code: 'DISPOSED', message: 'the trainer is disposed' })
    expect(() => trainer.state()).toThrow('the trainer is disposed')
    await forward(model)
    model.dispose()
    model.dispose()
    const disposed = { code: 'DISPOSED', message: 'the model is disposed' }
    await expect(forward(model)).rejects.toMatchObject(disposed)
    await expect(model.init(1)).rejects.toMatchObject(disposed)
    await expect(addon.createTrainer(model, trainerOptions)).rejects.toMatchObject(disposed)
    expect(() => model.parameters()).toThrow('the model is disposed')
    expect(() => model.memory()).toThrow('the model is disposed')
    expect(() => addon.createEngine(model, engineOptions, () => undefined)).toThrow('the model is disposed')
  })

  it.each(['model', 'trainer'] as const)(
    'dispose of the %s in mid-step refuses what runs and what waits',
    async (which) => {
      const model = await newModel(slowConfig)
      const trainer = await newTrainer(model)
      const running = slowStep(trainer)
      const waiting = slowStep(trainer)
      await new Promise((resolve) => setTimeout(resolve, 5))
      ;(which === 'model' ? model : trainer).dispose()
      const results = await Promise.allSettled([running, waiting])
      for (const result of results) {
        expect(result).toMatchObject({
          status: 'rejected',
          reason: { code: 'DISPOSED', message: `the ${which} is disposed` },
        })
      }
      if (which === 'trainer') await forward(model)
    },
  )

  it('keeps the event loop free while it computes', async () => {
    const trainer = await newTrainer(await newModel(slowConfig))
    let computing = true
    const steps = (async () => {
      const seconds: number[] = []
      while (seconds.length < 5) seconds.push((await slowStep(trainer)).seconds)
      computing = false
      return seconds
    })()
    const delays: number[] = []
    while (computing) {
      const began = performance.now()
      await new Promise((resolve) => setTimeout(resolve, 1))
      delays.push(performance.now() - began - 1)
    }
    const shortest = Math.min(...(await steps)) * 1000
    const p90 = delays.sort((a, b) => a - b)[Math.floor(delays.length * 0.9)]!
    // A call that blocked would delay a turn for a whole step. The bench measures the delay itself.
    expect(p90).toBeLessThan(shortest / 2)
  })
})

describe('engine', () => {
  type Events = { id: number; kind: number; token: number; depth: number; logprob: number }[]

  function collect(model: NativeModel, maxBatchSize = 4, kvCacheBytes = 0) {
    const events: Events = []
    const messages: string[] = []
    const waiting: (() => void)[] = []
    const onEvents = (packed: Float64Array, errors: string[] = []) => {
      for (let i = 0; i < packed.length; i += eventStride) {
        const [id, kind, token, depth, logprob] = packed.subarray(i, i + eventStride) as unknown as number[]
        events.push({ id: id!, kind: kind!, token: token!, depth: depth!, logprob: logprob! })
      }
      messages.push(...errors)
      for (const wake of waiting.splice(0)) wake()
    }
    const engine = addon.createEngine(model, { ...engineOptions, maxBatchSize, kvCacheBytes }, onEvents)
    const until = async (done: () => boolean) => {
      while (!done()) await new Promise<void>((resolve) => waiting.push(resolve))
    }
    const finished = (id: number) => events.some((event) => event.id === id && event.kind !== eventKind.token)
    return { engine, events, messages, until, finished }
  }

  it('says what is taken and what to lower when the KV cache has no room', async () => {
    const { engine, events, messages, until, finished } = collect(await newModel(nativeConfig('vanilla')), 1, 2 ** 50)
    engine.submit(1, patternTokens(6), generateParams)
    await until(() => finished(1))
    expect(events).toMatchObject([{ kind: eventKind.error, token: errorCodes.indexOf('OUT_OF_MEMORY') }])
    expect(messages[0]).toMatch(
      /no room for a KV cache of \d+ bytes .*; lower kvCacheBytes. By purpose: parameters \d+ bytes \(less with a smaller model\)\.$/,
    )
  })

  it.each(Object.keys(configs) as (keyof typeof configs)[])(
    'generates greedily what forward says: %s',
    async (name) => {
      const config = nativeConfig(name)
      const model = await newModel(config)
      const trainer = await newTrainer(model)
      for (let i = 0; i < 20; i++) await tinyStep(trainer)
      const { engine, events, until, finished } = collect(model)
      const prompt = patternTokens(6)
      engine.submit(1, prompt, generateParams)
      await until(() => finished(1))
      const generated = events.filter(({ kind }) => kind === eventKind.token)
      expect(generated).toHaveLength(8)
      expect(events.at(-1)).toMatchObject({ id: 1, kind: eventKind.length })
      const all = Int32Array.from([...prompt, ...generated.map(({ token }) => token)])
      const { logits, depths } = await model.forward(all, 1, all.length, { ...forwardOptions, routing: 'threshold' })
      generated.forEach(({ token, depth, logprob }, i) => {
        const at = prompt.length + i - 1
        const row = logits.subarray(at * config.vocabSize, (at + 1) * config.vocabSize)
        expect(token).toBe(row.indexOf(Math.max(...row)))
        expect(depth).toBe(depths[at])
        const sum = row.reduce((total, value) => total + Math.exp(value - row[token]!), 0)
        expect(logprob).toBeCloseTo(-Math.log(sum), 3)
      })
      const { depthHistogram, ...stats } = engine.stats()
      expect(stats).toMatchObject({ running: 0, waiting: 0, tokensGenerated: 8, promptTokens: 6, kvBlocksUsed: 0 })
      expect(stats.kvBlocksCached + stats.kvBlocksFree).toBe(stats.kvBlocksTotal)
      expect(depthHistogram).toHaveLength(config.numRecursions)
      expect(depthHistogram.reduce((sum, tokens) => sum + tokens)).toBe(6 + 8 - 1)
      await engine.close()
    },
  )

  it('tells what is wrong with a request in its own event, and goes on', async () => {
    const model = await newModel(nativeConfig('expert choice'))
    const { engine, events, messages, until, finished } = collect(model)
    engine.submit(1, Int32Array.of(99), generateParams)
    engine.submit(2, Int32Array.of(1), generateParams)
    expect(() => engine.submit(2, Int32Array.of(1), generateParams)).toThrow('request 2 is under way already')
    expect(() => engine.submit(3, Int32Array.of(1), { ...generateParams, topP: 2 })).toThrow(/topP .* got 2/)
    await until(() => finished(1) && finished(2))
    const error = events.find(({ id }) => id === 1)!
    expect(error.kind).toBe(eventKind.error)
    expect(errorCodes[error.token]).toBe('TOKEN_OUT_OF_RANGE')
    expect(messages).toEqual([expect.stringMatching(/99.*47/)])
    expect(events.at(-1)).toMatchObject({ id: 2, kind: eventKind.length })
    await engine.close()
  })

  it('aborts before, during and after, and takes turns with training', async () => {
    const model = await newModel(slowConfig)
    const trainer = await newTrainer(model)
    const { engine, events, until, finished } = collect(model, 1)
    const long = { ...generateParams, maxTokens: 400 }
    engine.submit(1, patternTokens(8), long)
    engine.submit(2, patternTokens(8), long)
    engine.abort(2)
    engine.abort(77)
    await until(() => events.some(({ kind }) => kind === eventKind.token))
    await slowStep(trainer)
    engine.abort(1)
    await until(() => finished(1) && finished(2))
    for (const id of [1, 2]) expect(events.filter((event) => event.id === id).at(-1)!.kind).toBe(eventKind.abort)
    engine.abort(1)
    const before = events.length
    engine.submit(1, patternTokens(8), generateParams)
    await until(() => events.slice(before).some(({ kind }) => kind === eventKind.length))
    await engine.close()
  })

  it('ends its requests when it is closed or its model disposed', async () => {
    const model = await newModel(slowConfig)
    const long = { ...generateParams, maxTokens: 400 }
    const closed = collect(model)
    closed.engine.submit(1, patternTokens(8), long)
    await closed.engine.close()
    expect(closed.events.at(-1)).toMatchObject({ id: 1, kind: eventKind.abort })
    expect(() => closed.engine.submit(2, patternTokens(8), long)).toThrow('the engine is disposed')
    await closed.engine.close()

    const orphan = collect(model)
    orphan.engine.submit(1, patternTokens(8), long)
    await orphan.until(() => orphan.events.length > 0)
    orphan.engine.submit(2, patternTokens(8), long)
    model.dispose()
    await orphan.until(() => orphan.finished(1) && orphan.finished(2))
    for (const { kind, token } of orphan.events.filter((event) => event.kind !== eventKind.token)) {
      expect([kind, errorCodes[token]]).toEqual([eventKind.error, 'DISPOSED'])
    }
    await orphan.engine.close()
  })
})
