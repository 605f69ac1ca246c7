// A stand-in for the native addon that keeps its contract: asynchronous calls in order, codes on errors, real files, state
// that changes as training would change it. Its arithmetic is invented; tests of numbers use the real addon.
import { type ErrorCode, errorCodes } from '../../lib/errors.js'
import type {
  DeviceInfo,
  DType,
  NativeAddon,
  NativeConfig,
  NativeEngine,
  NativeGenerateParams,
  NativeModel,
  NativeModelOptions,
  NativeReadFile,
  NativeSavedFile,
  NativeTrainer,
  NativeTrainerOptions,
} from '../../lib/native.js'
import { eventKind, eventStride, mostTopLogprobs } from '../../lib/native.js'
import {
  adjustedTensors,
  bf16ToNumber,
  nativeError,
  numberToBf16,
  parameterTable,
  readInto,
  saveFiles,
  type Tensor,
  tensorTable,
} from './fake_tensors.js'

/** Lets tests stop native work in the middle: calls under way end when `open` is called. */
class Gate {
  #waiting: (() => void)[] = []
  #closed = false

  close(): void {
    this.#closed = true
  }

  open(): void {
    this.#closed = false
    for (const go of this.#waiting.splice(0)) go()
  }

  async pass(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve))
    if (this.#closed) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }
}

export class FakeAddon implements NativeAddon {
  readonly gate = new Gate()
  /** Names of the native calls that have begun, in order. */
  readonly calls: string[] = []
  #stop: { name: string; reached: () => void } | null = null
  readonly trainers: FakeTrainer[] = []
  readonly models: FakeModel[] = []
  readonly engines: FakeEngine[] = []
  /** Thrown by the next write, as a full disk would. */
  nextWriteError: Error | null = null
  gpu: DeviceInfo = {
    id: 'cuda',
    type: 'cuda',
    name: 'Fake',
    usable: false,
    code: 'DRIVER_MISSING',
    reason: 'no driver',
    memoryBytes: 0,
    features: [],
  }

  readonly constants = { errorCodes: [...errorCodes], eventKind, eventStride, mostTopLogprobs }

  devices = (): DeviceInfo[] => {
    const cpu: DeviceInfo = {
      id: 'cpu',
      type: 'cpu',
      name: 'Fake',
      usable: true,
      memoryBytes: 1,
      threads: 2,
      features: [],
    }
    return [cpu, this.gpu]
  }

  parameterTable = parameterTable

  writeDerivedFiles = (): Promise<void> => Promise.reject(nativeError('INTERNAL', 'this stand-in derives no files'))

  launcher = () => null

  joinRanks = (): Promise<never> => Promise.reject(nativeError('INTERNAL', 'this stand-in has no ranks'))

  createModel = async (config: NativeConfig, options: NativeModelOptions) => {
    await this.#begin('createModel')
    const model = new FakeModel(this, config, options.dtype)
    this.models.push(model)
    return model
  }

  createTrainer = (model: NativeModel, options: NativeTrainerOptions) => {
    ;(model as FakeModel).checkAlive()
    const trainer = new FakeTrainer(this, model as FakeModel, options)
    this.trainers.push(trainer)
    return trainer
  }

  createEngine = (
    model: NativeModel,
    _options: object,
    onEvents: (events: Float64Array, messages: string[]) => void,
  ): NativeEngine => {
    ;(model as FakeModel).checkAlive()
    const engine = new FakeEngine(model as FakeModel, onEvents)
    this.engines.push(engine)
    return engine
  }

  /** Closes the gate when the next call of this name begins, and resolves then. */
  stopAt(name: string): Promise<void> {
    return new Promise((reached) => {
      this.#stop = { name, reached }
    })
  }

  record(name: string): void {
    this.calls.push(name)
    if (this.#stop?.name !== name) return
    this.gate.close()
    this.#stop.reached()
    this.#stop = null
  }

  save(folder: string, files: NativeSavedFile[], valuesOf: (name: string) => Float32Array, stepsDone = 0): void {
    const { nextWriteError } = this
    this.nextWriteError = null
    saveFiles(folder, files, { nextWriteError, valuesOf, stepsDone })
  }

  async #begin(name: string): Promise<void> {
    this.record(name)
    await this.gate.pass()
  }
}

export class FakeModel implements NativeModel {
  readonly tensors: Tensor[]
  disposed = false
  #rejectPending: ((error: Error) => void)[] = []
  #lastCall: Promise<unknown> = Promise.resolve()

  constructor(
    readonly addon: FakeAddon,
    readonly config: NativeConfig,
    readonly dtype: DType,
  ) {
    this.tensors = tensorTable(config)
  }

  parameters = () => parameterTable(this.config, this.dtype)

  init = (seed: number, signal?: AbortSignal) =>
    this.begin(
      'init',
      () => {
        this.tensors.forEach((tensor, t) => {
          tensor.values.forEach((_, i) => {
            tensor.values[i] = adjustedTensors.includes(tensor.name)
              ? 0
              : this.round(Math.sin(seed + 1 + t * 7 + i) / 10)
          })
        })
      },
      signal,
    )

  read = (files: NativeReadFile[], signal?: AbortSignal) =>
    this.begin(
      'read',
      () =>
        readInto(
          files,
          (name) => this.tensor(name).values,
          (value, name) => this.round(value, name),
        ),
      signal,
    )

  save = (folder: string, files: NativeSavedFile[]) =>
    this.begin('save', () => this.addon.save(folder, files, (name) => this.tensor(name).values))

  forward = (tokens: Int32Array, batch: number, length: number, _options: object, signal?: AbortSignal) =>
    this.begin(
      'forward',
      () => {
        const { vocabSize } = this.config
        const logits = Float32Array.from({ length: tokens.length * vocabSize }, (_, i) => {
          return ((tokens[Math.floor(i / vocabSize)]! * 31 + i) % 17) + this.tensors[0]!.values[0]!
        })
        return { logits, depths: new Uint8Array(batch * length).fill(this.config.numRecursions) }
      },
      signal,
    )

  logprobs = () => Promise.reject(new Error('the fake model computes no log-probabilities'))
  hiddenStates = () => Promise.reject(new Error('the fake model has no hidden states'))

  memory = () => {
    this.checkAlive()
    return { parameters: this.tensors.reduce((sum, { values }) => sum + values.byteLength, 0) }
  }

  dispose = async () => {
    this.disposed = true
    for (const reject of this.#rejectPending.splice(0)) reject(nativeError('DISPOSED', 'the model is disposed'))
    await this.#lastCall
  }

  checkAlive(): void {
    if (this.disposed) throw nativeError('DISPOSED', 'the model is disposed')
  }

  tensor(name: string): Tensor {
    return this.tensors.find((tensor) => tensor.name === name)!
  }

  /** The nearest value that the tensor's precision holds: the model's, but float32 for the balancing bias. */
  round(value: number, name = ''): number {
    return this.dtype === 'float32' || adjustedTensors.includes(name)
      ? Math.fround(value)
      : bf16ToNumber(numberToBf16(value))
  }

  /**
   * Runs `work` after the calls made before; rejects with DISPOSED if the model goes first, and with ABORTED if `signal`
   * comes first, which does nothing to a call that has begun and `finishes`.
   */
  begin<T>(name: string, work: () => T, signal?: AbortSignal, finishes = false): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.checkAlive()
      let state: 'waits' | 'runs' | 'aborted' = 'waits'
      const abort = () => {
        if (state === 'runs' && finishes) return
        state = 'aborted'
        reject(nativeError('ABORTED', `${name} was aborted`))
      }
      if (signal?.aborted) return abort()
      signal?.addEventListener('abort', abort)
      this.#rejectPending.push(reject)
      const run = async () => {
        if (state === 'aborted' || this.disposed) return
        state = 'runs'
        this.addon.record(name)
        await this.addon.gate.pass()
        if (state === 'runs' && !this.disposed) resolve(work())
      }
      this.#lastCall = this.#lastCall.then(run).catch(reject)
    })
  }
}

/** Some number from 0 to 1, another one for every step. */
function noiseOf(step: number): number {
  return (step * 0.618034) % 1
}

/** Of micro-batches of (rows, length). */
function tokensOf(shapes: Int32Array): number {
  let tokens = 0
  for (let i = 0; i < shapes.length; i += 2) tokens += shapes[i]! * shapes[i + 1]!
  return tokens
}

export class FakeTrainer implements NativeTrainer {
  /** The arguments of every step. */
  readonly steps: { tokens: number[]; counts: number[] | null; shapes: number[] }[] = []
  #stepsDone = 0
  #disposed = false
  readonly #tensors: Tensor[]
  readonly #masters: Tensor[]

  constructor(
    readonly addon: FakeAddon,
    readonly model: FakeModel,
    readonly options: NativeTrainerOptions,
  ) {
    const copy = (prefix: string, initial: (value: number) => number) =>
      this.#trained().map(({ name, shape, values }) => ({ name: prefix + name, shape, values: values.map(initial) }))
    this.#masters = model.dtype === 'float32' ? this.#trained() : copy('master.', (value) => value)
    const masters = model.dtype === 'float32' ? [] : this.#masters
    this.#tensors = [...masters, ...copy('exp_avg.', () => 0), ...copy('exp_avg_sq.', () => 0)]
    this.#begin('createTrainer', () => undefined).catch(() => undefined)
  }

  step = (tokens: Int32Array, counts: Uint8Array | null, shapes: Int32Array, signal?: AbortSignal) => {
    this.steps.push({ tokens: [...tokens], counts: counts && [...counts], shapes: [...shapes] })
    return this.#begin('step', () => this.#step(tokens, tokensOf(shapes)), signal, true)
  }

  fail = (_call: string, code: ErrorCode, message: string) =>
    this.#begin('fail', (): never => {
      throw nativeError(code, message)
    })

  #step(tokens: Int32Array, count: number) {
    if (this.options.learningRate > 1e6) throw nativeError('NON_FINITE', 'the loss is NaN; the step was refused')
    this.#stepsDone++
    const gradient = tokens.reduce((sum, token) => sum + token, 0) / tokens.length + noiseOf(this.#stepsDone)
    const bias = this.model.tensors.find(({ name }) => adjustedTensors.includes(name))
    bias?.values.forEach((value, j) => {
      bias.values[j] = value + 0.001 * (j + 1)
    })
    this.#masters.forEach((master, t) => {
      const average = this.#find('exp_avg.', t)
      const square = this.#find('exp_avg_sq.', t)
      master.values.forEach((value, i) => {
        average[i] = 0.9 * average[i]! + 0.1 * gradient
        square[i] = 0.95 * square[i]! + 0.05 * gradient * gradient
        master.values[i] = value - (this.options.learningRate * average[i]!) / (Math.sqrt(square[i]!) + 1e-8)
        this.#trained()[t]!.values[i] = this.model.round(master.values[i]!)
      })
    })
    const loss = this.#masters[0]!.values[0]!
    return {
      loss,
      lmLoss: loss,
      auxiliaryLoss: 0,
      zLoss: 0,
      balancingLoss: 0,
      gradientNorm: gradient,
      learningRate: this.options.learningRate,
      tokens: count,
      lossTokens: count,
      distillationLoss: 0,
      seconds: 0.5,
      flops: 1,
      vanillaFlops: 1,
      depthHistogram: [count],
      selectedShares: null,
      routerThresholds: null,
      routingAccuracy: null,
      deadTokenRatio: null,
      maxVio: null,
      loadEntropy: null,
      memoryBytes: 1,
      step: this.#stepsDone,
      recursions: 1,
      communicationSeconds: null,
      slowestRank: null,
      slowestRankSeconds: null,
    }
  }

  evaluate = (
    _tokens: Int32Array,
    _counts: Uint8Array | null,
    shapes: Int32Array,
    routing: 'topk' | 'threshold',
    signal?: AbortSignal,
  ) =>
    this.#begin(
      `evaluate ${routing}`,
      () => ({
        loss: 1,
        lmLoss: 1,
        tokens: tokensOf(shapes),
        lossTokens: tokensOf(shapes),
        depthHistogram: [tokensOf(shapes)],
        routingAccuracy: null,
        seconds: 0.5,
      }),
      signal,
    )

  tensors = () => this.#tensors.map(({ name, shape }) => ({ name, shape }))

  stepsDone = () => this.#stepsDone

  save = (folder: string, files: NativeSavedFile[]) =>
    this.#begin('save', () => {
      const all = [...this.#tensors, ...this.model.tensors]
      this.addon.save(folder, files, (name) => all.find((tensor) => tensor.name === name)!.values, this.#stepsDone)
    })

  read = (files: NativeReadFile[], stepsDone: number) =>
    this.#begin('read', () => {
      this.#stepsDone = stepsDone
      readInto(files, (name) => this.#tensors.find((tensor) => tensor.name === name)!.values, Math.fround)
    })

  dispose = async () => {
    this.#disposed = true
    if (!this.model.disposed) await this.model.begin('dispose', () => undefined)
  }

  /** What gradients change: all but the balancing bias and what is frozen. */
  #trained(): Tensor[] {
    const frozen = new Set(this.options.parameters.filter((own) => own.frozen).map(({ name }) => name))
    return this.model.tensors.filter(({ name }) => !adjustedTensors.includes(name) && !frozen.has(name))
  }

  #find(prefix: string, index: number): Float32Array {
    const name = prefix + this.#trained()[index]!.name
    return this.#tensors.find((tensor) => tensor.name === name)!.values
  }

  async #begin<T>(name: string, work: () => T, signal?: AbortSignal, finishes = false): Promise<T> {
    const checked = () => {
      if (this.#disposed) throw nativeError('DISPOSED', 'the trainer is disposed')
      return work()
    }
    return this.model.begin(name, checked, signal, finishes)
  }
}

/** Generates last + 1, last + 2, … (modulo the vocabulary), one request after another, one token per turn. */
export class FakeEngine implements NativeEngine {
  readonly queue: { id: number; prompt: Int32Array; last: number; left: number; params: NativeGenerateParams }[] = []
  #running = false
  #closed = false

  constructor(
    readonly model: FakeModel,
    readonly onEvents: (events: Float64Array, messages: string[]) => void,
  ) {}

  submit = (id: number, prompt: Int32Array, params: NativeGenerateParams) => {
    if (this.model.disposed) throw nativeError('DISPOSED', 'the model is disposed')
    this.queue.push({ id, prompt, last: prompt.at(-1)!, left: params.maxTokens, params })
    if (!this.#running) setImmediate(this.#tick)
    this.#running = true
  }

  abort = (id: number) => {
    const index = this.queue.findIndex((request) => request.id === id)
    if (index === -1) return
    this.queue.splice(index, 1)
    setImmediate(() => this.emit(id, eventKind.abort))
  }

  stats = () => ({
    running: Math.min(1, this.queue.length),
    waiting: Math.max(0, this.queue.length - 1),
    finished: 0,
    tokensGenerated: 0,
    promptTokens: 0,
    prefixHitTokens: 0,
    steps: 0,
    preemptions: 0,
    kvBlocksTotal: 0,
    kvBlocksUsed: 0,
    kvBlocksCached: 0,
    kvBlocksFree: 0,
    kvBytesTotal: 0,
    kvBytesUsed: 0,
    kvBytesVanilla: 0,
    depthHistogram: [],
  })

  close = async () => {
    this.#closed = true
    await new Promise((resolve) => setImmediate(resolve))
  }

  emit(id: number, kind: number, token = -1, depth = 0, logprob = 0): void {
    this.onEvents(Float64Array.of(id, kind, token, depth, logprob), [])
  }

  /** A token, after as many of the most likely ones as its request asks for: itself, then the next ids. @param kind token or stop */
  #generate({ id, last, left, params }: (typeof this.queue)[number], kind: number): void {
    const { vocabSize, numRecursions } = this.model.config
    const top = Array.from({ length: Math.min(params.topLogprobs, vocabSize) }, (_, i) => {
      return [id, eventKind.top, (last + i) % vocabSize, 0, -0.5 - i]
    })
    const token = [id, kind, last, (last % numRecursions) + 1, -0.5]
    const prefill = left === params.maxTokens ? [[id, eventKind.prefill, -1, 0, 0.001]] : []
    this.onEvents(Float64Array.from([...prefill, ...top, token].flat()), [])
  }

  /** Of every token but the first: the most likely ones where asked for, itself and the next ids, then the token. */
  #reportPrompt({ id, prompt, params: { promptLogprobs } }: (typeof this.queue)[number]): void {
    const events = Array.from(prompt.subarray(1), (token) => [
      ...Array.from({ length: promptLogprobs }, (_, i) => [id, eventKind.top, token + i, 0, -0.25 - i]),
      [id, eventKind.prompt, token, (token % this.model.config.numRecursions) + 1, -0.25],
    ])
    this.onEvents(Float64Array.from(events.flat(2)), [])
  }

  /** Ends several requests with errors in one batch of events. */
  fail(failures: { id: number; code: ErrorCode; message: string }[]): void {
    const events = failures.flatMap(({ id, code }) => [id, eventKind.error, errorCodes.indexOf(code), 0, 0])
    this.onEvents(
      Float64Array.from(events),
      failures.map(({ message }) => message),
    )
  }

  #tick = (): void => {
    const request = this.queue[0]
    this.#running = request !== undefined && !this.#closed
    if (request === undefined || this.#closed) return
    if (request.params.promptLogprobs >= 0 && request.left === request.params.maxTokens) this.#reportPrompt(request)
    request.last = (request.last + 1) % this.model.config.vocabSize
    if (request.left === 0) {
      this.queue.shift()
      this.emit(request.id, eventKind.length)
    } else if (request.params.stop.includes(request.last)) {
      this.queue.shift()
      this.#generate(request, eventKind.stop)
    } else {
      this.#generate(request, eventKind.token)
      if (--request.left === 0) {
        this.queue.shift()
        this.emit(request.id, eventKind.length)
      }
    }
    setImmediate(this.#tick)
  }
}
