// A stand-in for the native addon that keeps its contract: asynchronous calls in order, codes on errors, real files, state
// that changes as training would change it. Its arithmetic is invented; tests of numbers use the real addon.
import { errorCodes } from '../../lib/errors.js'
import type { DeviceInfo, NativeAddon } from '../../lib/native/addon.js'
import type { NativeConfig } from '../../lib/native/config.js'
import type { NativeEngine } from '../../lib/native/engine.js'
import { eventKind, eventStride, mostTopLogprobs } from '../../lib/native/engine.js'
import type { NativeSavedFile } from '../../lib/native/files.js'
import type { NativeModel, NativeModelOptions } from '../../lib/native/model.js'
import type { NativeTrainerOptions } from '../../lib/native/trainer.js'
import { FakeEngine } from './fake_engine.js'
import { FakeModel } from './fake_model.js'
import { nativeError, parameterTable, saveFiles } from './fake_tensors.js'
import { FakeTrainer } from './fake_trainer.js'

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
