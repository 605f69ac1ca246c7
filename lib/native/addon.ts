// The surface of the native addon as types: what native/binding implements, and no more.
import type { ErrorCode } from '../errors.js'
import type { NativeConfig } from './config.js'
import type { NativeEngine, NativeEngineOptions } from './engine.js'
import type { NativeDerivedFile } from './files.js'
import type { DType, NativeModel, NativeModelOptions, NativeParameter } from './model.js'
import type { NativeJoinOptions, NativeRanks } from './ranks.js'
import type { NativeTrainer, NativeTrainerOptions } from './trainer.js'

/** One compute device, usable or not. Returned as it is by the public `devices()`. */
export interface DeviceInfo {
  /** 'cpu', 'cuda:0', …, as `device` options accept it. Where no GPU can be listed, one entry 'cuda' says why. */
  id: string
  type: 'cpu' | 'cuda'
  /** The name the vendor gives it. */
  name: string
  usable: boolean
  /** Of the error that using it throws; present exactly when `usable` is false. */
  code?: ErrorCode
  /** Why it cannot be used and what to do; present exactly when `usable` is false. */
  reason?: string
  /** Total memory in bytes; of a CPU no more than the control group of the process grants. */
  memoryBytes: number
  /** Threads unless told otherwise (CPU): the processors of the process, but no more than its control group grants. */
  threads?: number
  /** The set that kernels use (usable CPU): the best of the processor, or that of MOR_INSTRUCTION_SET. */
  instructionSet?: 'avx2' | 'avx512' | 'avx512_bf16' | 'amx' | 'neon' | 'neon_bf16'
  /** Instruction sets and features that matter for speed, e.g. 'avx512_bf16'. */
  features: string[]
  /** CUDA compute capability, e.g. '9.0'. */
  computeCapability?: string
}

/** What the addon was compiled with of the values that TypeScript repeats; a test compares them. */
export interface NativeConstants {
  errorCodes: string[]
  eventKind: Record<string, number>
  eventStride: number
  mostTopLogprobs: number
}

/** The addon. Errors it throws or rejects with carry an `ErrorCode` as `code`. */
export interface NativeAddon {
  readonly constants: NativeConstants
  devices(): DeviceInfo[]
  /** Every tensor of a model with weights of `dtype`, in the order of its checkpoint. Allocates none of them. */
  parameterTable(config: NativeConfig, dtype: DType): NativeParameter[]
  /** Allocates the weights without initialising them. */
  createModel(config: NativeConfig, options: NativeModelOptions): Promise<NativeModel>
  /**
   * Makes `folder` if need be and writes files into it, all or none, without a model: a few MB or one tensor are in memory at a
   * time. CHECKPOINT_INVALID where a source holds NaN or an infinity.
   */
  writeDerivedFiles(folder: string, files: NativeDerivedFile[], signal?: AbortSignal): Promise<void>
  /**
   * One trainer of a model at a time; INVALID_ARGUMENT while there is another. If its memory cannot be allocated, its
   * calls reject with that error.
   */
  createTrainer(model: NativeModel, options: NativeTrainerOptions): NativeTrainer
  /** The program that started this process as one rank of several; null: none. Throws COMMUNICATION_FAILED. */
  launcher(): { name: string; rank: number; size: number; localRank: number | null } | null
  /** Waits for the other ranks. One process may join again when it has left. */
  joinRanks(options: NativeJoinOptions, signal?: AbortSignal): Promise<NativeRanks>
  /** `onEvents` gets packed events and one message for each error event among them, in order. */
  createEngine(
    model: NativeModel,
    options: NativeEngineOptions,
    onEvents: (events: Float64Array, messages: string[]) => void,
  ): NativeEngine
}
