// The trainer of the stand-in addon: its state changes with every step as that of training would.
import type { ErrorCode } from '../../lib/errors.js'
import type { NativeReadFile, NativeSavedFile } from '../../lib/native/files.js'
import type { NativeTrainer, NativeTrainerOptions } from '../../lib/native/trainer.js'
import type { FakeAddon } from './fake_addon.js'
import type { FakeModel } from './fake_model.js'
import { adjustedTensors, nativeError, readInto, type Tensor } from './fake_tensors.js'

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
