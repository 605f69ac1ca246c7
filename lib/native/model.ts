// A model of the addon, and its passes.
import type { NativeReadFile, NativeSavedFile } from './files.js'

export type DType = 'bfloat16' | 'float32'

export type Routing = 'topk' | 'threshold'

export interface NativeModelOptions {
  device: string
  dtype: DType
  /** 0 = the device's default. */
  threads: number
  /** Nice value of the threads that compute. */
  nice: number
}

export interface NativeForwardOptions {
  routing: Routing
  routerThreshold: number
  /** 0 = all recursions. */
  maxRecursions: number
}

/** One tensor of a model's weights. */
export interface NativeParameter {
  name: string
  shape: number[]
  role: 'embedding' | 'projection' | 'norm' | 'bias' | 'router'
  /** The unique layer; null where the tensor belongs to none. */
  layer: number | null
  dtype: 'F32' | 'BF16'
  bytes: number
  /** Whether weight decay shrinks it. */
  decays: boolean
  /** By the optimizer. */
  trained: boolean
}

/** Bytes by purpose. */
export interface MemoryUse {
  parameters: number
  [purpose: string]: number
}

/**
 * Calls that return a promise are posted to the model's own thread at once and run there one after another, in the order
 * in which they were made, those of its trainer among them. An aborted call that waits never runs; one that runs stops
 * between two layers or tensors. After `dispose` every call rejects with DISPOSED.
 */
export interface NativeModel {
  /** Every tensor of a checkpoint, in table order, as it is stored. */
  parameters(): NativeParameter[]
  init(seed: number, signal?: AbortSignal): Promise<void>
  read(files: NativeReadFile[], signal?: AbortSignal): Promise<void>
  /**
   * Makes `folder` if need be and puts `files` into it, all or none: they are written aside, synced and renamed. Files that
   * are not replaced are left alone.
   */
  save(folder: string, files: NativeSavedFile[]): Promise<void>
  /**
   * tokens: [batch * length]. Logits at `positions` of every row, of all where it is left out: [batch * positions * vocab].
   * depths, here and below: [batch * length], recursions run by each token: 0..N.
   */
  forward(
    tokens: Int32Array,
    batch: number,
    length: number,
    options: NativeForwardOptions & { positions?: Int32Array },
    signal?: AbortSignal,
  ): Promise<{ logits: Float32Array; depths: Uint8Array }>
  /** targets: [batch * length], -1 where none. One log-probability for each other one, in their order. */
  logprobs(
    tokens: Int32Array,
    batch: number,
    length: number,
    targets: Int32Array,
    options: NativeForwardOptions,
    signal?: AbortSignal,
  ): Promise<{ logprobs: Float32Array; depths: Uint8Array }>
  /** layers: distinct, from 0 to numHiddenLayers. hiddenStates: [layers * batch * length * hidden] */
  hiddenStates(
    tokens: Int32Array,
    batch: number,
    length: number,
    layers: Int32Array,
    options: NativeForwardOptions,
    signal?: AbortSignal,
  ): Promise<{ hiddenStates: Float32Array; depths: Uint8Array }>
  memory(): MemoryUse
  /** Resolves when the memory has been given back. */
  dispose(): Promise<void>
}
