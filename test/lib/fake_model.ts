// The model of the stand-in addon: its calls run in order, and values follow from the seed.
import type { NativeConfig } from '../../lib/native/config.js'
import type { NativeReadFile, NativeSavedFile } from '../../lib/native/files.js'
import type { DType, NativeModel } from '../../lib/native/model.js'
import type { FakeAddon } from './fake_addon.js'
import {
  adjustedTensors,
  bf16ToNumber,
  nativeError,
  numberToBf16,
  parameterTable,
  readInto,
  type Tensor,
  tensorTable,
} from './fake_tensors.js'

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
