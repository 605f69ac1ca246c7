// The surface of the native addon as types: what native/binding implements, and no more.
import type { ErrorCode } from './errors.js'

export type DType = 'bfloat16' | 'float32'
export type SafetensorsFloat = 'F32' | 'BF16' | 'F16'
export type Routing = 'topk' | 'threshold'

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

export interface NativeRouterConfig {
  type: 'expert_choice' | 'token_choice'
  activation: 'sigmoid' | 'tanh' | 'softmax'
  architecture: 'linear' | 'mlp'
  alpha: number
  gated: 'output' | 'update'
  /** One fraction per recursion; empty = the integer rule of docs/model.md section 3. */
  capacities: number[]
  auxiliaryLossCoefficient: number
  zLossCoefficient: number
  balancingLossCoefficient: number
  balancing: 'loss' | 'loss_free'
  auxiliaryRouter: boolean
  capacityWarmupSteps: number
  selection: 'topk' | 'threshold'
  thresholdMomentum: number
}

export type NativeRopeScaling =
  | { type: 'linear'; factor: number }
  | {
      type: 'llama3'
      factor: number
      lowFreqFactor: number
      highFreqFactor: number
      originalMaxPositionEmbeddings: number
    }

/** Complete and validated configuration. */
export interface NativeConfig {
  vocabSize: number
  hiddenSize: number
  intermediateSize: number
  numHiddenLayers: number
  numAttentionHeads: number
  numKeyValueHeads: number
  headDim: number
  qkvBias: boolean
  qkNorm: boolean
  maxPositionEmbeddings: number
  ropeTheta: number
  ropeScaling: NativeRopeScaling | null
  rmsNormEps: number
  tieWordEmbeddings: boolean
  initializerRange: number
  numRecursions: number
  sharing: 'cycle' | 'sequence' | 'middle_cycle' | 'middle_sequence'
  kvCache: 'recursion_wise' | 'shared' | 'hybrid'
  router: NativeRouterConfig | null
}

/** Tensors to read from one file. Offsets are absolute byte offsets in that file. */
export interface NativeReadFile {
  path: string
  tensors: {
    name: string
    dtype: SafetensorsFloat
    offset: number
    bytes: number
    /** Heads of a q or k projection whose rows are in the order of llama.cpp; left out: in that of Hugging Face. */
    interleavedHeads?: number
  }[]
}

/** A tensor that is made of tensors of other files: their mean, element by element, in float32. */
export interface NativeDerivedTensor {
  /** For messages. */
  name: string
  dtype: SafetensorsFloat
  shape: readonly number[]
  /**
   * One of the same dtype is copied as it is. None: `values`, or else normal numbers, or else zeros. `name` is that of the tensor
   * there, for messages.
   */
  sources: { path: string; name: string; dtype: SafetensorsFloat; offset: number }[]
  values?: Float32Array
  /** Tensors of different streams get different numbers. */
  normal?: { deviation: number; stream: number }
  /**
   * Changes the order of the rows of each rotary head: from Hugging Face's, first halves before second halves, to that of
   * llama.cpp, where the halves of a pair are side by side; without `interleaves` the other way.
   */
  rowOrder?: { heads: number; interleaves: boolean }
  /** Zero bytes that follow it in the file. */
  padding: number
}

export interface NativeDerivedFile {
  name: string
  /** The first bytes. */
  head: Uint8Array
  tensors: NativeDerivedTensor[]
}

/** A file to write: bytes, and after them tensors, one after another. */
export interface NativeSavedFile {
  name: string
  /** The first bytes. A trainer's may be in pieces: between two of them stands the number of optimizer steps done. */
  head: Uint8Array[]
  tensors: { name: string; dtype: 'F32' | 'BF16' }[]
  /**
   * An index of which this file takes the place: the index and the `.safetensors` files that it names are removed from the
   * folder once everything is in place, the index last.
   */
  replaces?: string
}

export interface NativeForwardOptions {
  routing: Routing
  routerThreshold: number
  /** 0 = all recursions. */
  maxRecursions: number
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
   * depths, here and below: [batch * length], recursions run by each token: 1..N.
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

/** Bytes by purpose. */
export interface MemoryUse {
  parameters: number
  [purpose: string]: number
}

export interface NativeTrainerOptions {
  learningRate: number
  schedule: {
    type: 'constant' | 'cosine' | 'trapezoid'
    warmupSteps: number
    totalSteps: number
    cooldownSteps: number
    minimumRatio: number
  }
  beta1: number
  beta2: number
  epsilon: number
  weightDecay: number
  /** Largest global gradient norm; 0 = no clipping. */
  gradientClip: number
  recompute: boolean
  weightHashInterval: number
  /** Recursions of the first step, the first step, counted from 0, that runs all, and the share of steps that run fewer. */
  depthSchedule: { from: number; steps: number; dropout: number }
  parameters: NativeParameterOptions[]
  /** In place of the model's; null: the model's. */
  capacityWarmupSteps: number | null
  /** The teacher stays in memory until the trainer is disposed, and cannot be trained before. */
  distillation: { teacher: NativeModel; temperature: number; weight: number } | null
  /** Ranks have one trainer at a time. gradientDtype: in which gradients travel. bucketBytes: of float32 gradients that travel together. */
  /** sameOnAll: what the ranks compare, named as in messages. */
  distributed: {
    ranks: NativeRanks
    gradientDtype: DType
    bucketBytes: number
    sameOnAll: { name: string; value: string }[]
  } | null
}

/** Of one trained tensor; what is undefined is as for all. */
export interface NativeParameterOptions {
  name: string
  /** Factor of learningRate. */
  learningRateScale: number | undefined
  weightDecay: number | undefined
  frozen: boolean
}

/** Measurements of one optimizer step. */
export interface NativeStepStats {
  /** lmLoss, or its mean with distillationLoss by the weight of that, plus every weighted auxiliary term; nats per token. */
  loss: number
  /** Mean cross-entropy, nats per token. */
  lmLoss: number
  /** Mean KL divergence from the teacher times the square of the temperature, nats per token; 0 without a teacher. */
  distillationLoss: number
  auxiliaryLoss: number
  zLoss: number
  balancingLoss: number
  /** Global L2 norm before clipping. */
  gradientNorm: number
  learningRate: number
  /** Tokens that the model ran over in this step, all micro-batches together. */
  tokens: number
  /** Those of them after which the next token counts in the loss. */
  lossTokens: number
  seconds: number
  /** Executed floating-point operations, forward and backward, head and teacher included. */
  flops: number
  /** What a vanilla model of the same effective depth would have executed. */
  vanillaFlops: number
  /** Tokens whose depth was 1..N. */
  depthHistogram: number[]
  /** Share of the tokens that ran recursion 1..N; null without expert-choice. */
  selectedShares: number[] | null
  /** For recursion 1..N the running threshold that the scores of this step were compared with; null unless training selects by threshold. */
  routerThresholds: number[] | null
  /** Share of routing decisions in which the causal threshold agrees with top-k; null unless top-k was used. */
  routingAccuracy: number | null
  deadTokenRatio: number | null
  /** (largest load - mean load) / mean load; null without token-choice. */
  maxVio: number | null
  /** Entropy of the loads in nats; null without token-choice. */
  loadEntropy: number | null
  memoryBytes: number
  /** Optimizer steps done so far, this one included. */
  step: number
  /** Most recursions of a token in this step. */
  recursions: number
  /** That a rank waited for others, the mean over ranks; null: it trains alone. */
  communicationSeconds: number | null
  /** The rank that computed longest, and how long; null: it trains alone. */
  slowestRank: number | null
  slowestRankSeconds: number | null
}

export type NativeEvaluateStats = Pick<
  NativeStepStats,
  'loss' | 'lmLoss' | 'tokens' | 'lossTokens' | 'depthHistogram' | 'routingAccuracy' | 'seconds'
>

export interface NativeTrainer {
  /**
   * tokens: rows of length + 1 ids, those of the first micro-batch, then those of the next. counts: for each id, whether it
   * counts as a target; null: all do. shapes: the number of rows and their length, for each micro-batch. An aborted step
   * that has started is finished and reported.
   */
  step(
    tokens: Int32Array,
    counts: Uint8Array | null,
    shapes: Int32Array,
    signal?: AbortSignal,
  ): Promise<NativeStepStats>
  /** Rejects with this error, which all ranks get in place of the call that the others begin. */
  fail(call: 'step' | 'save', code: ErrorCode, message: string): Promise<never>
  evaluate(
    tokens: Int32Array,
    counts: Uint8Array | null,
    shapes: Int32Array,
    routing: Routing,
    signal?: AbortSignal,
  ): Promise<NativeEvaluateStats>
  /**
   * What it must keep to go on bit for bit, beside the number of steps and the model's own tensors: `exp_avg.<parameter>`,
   * `exp_avg_sq.<parameter>` and, where the weights are rounded or some are frozen, `master.<parameter>`. All are float32.
   */
  tensors(): { name: string; shape: number[] }[]
  /** As of the last finished call, also after `dispose`. */
  stepsDone(): number
  /** As NativeModel.save; the tensors are those of `tensors()` and of the model's `parameters()`. */
  save(folder: string, files: NativeSavedFile[]): Promise<void>
  read(files: NativeReadFile[], stepsDone: number): Promise<void>
  dispose(): Promise<void>
}

/** Seconds after which ranks give up: one that waits for others to start, and all that hear nothing of another one. */
export interface NativeJoinOptions {
  joinTimeout: number
  silenceTimeout: number
}

/** This process among those that a launcher started. */
export interface NativeRanks {
  rank(): number
  size(): number
  /** The texts of all ranks, in their order. */
  gather(text: string): Promise<string[]>
  /** Throws COMMUNICATION_FAILED if the ranks cannot train together on a device like this one. */
  requireDevice(device: string): void
  /** Ends all calls that wait for other ranks, those of a trainer too. Resolves when they have ended. */
  dispose(): Promise<void>
}

export interface NativeGenerateParams {
  maxTokens: number
  temperature: number
  /** 0 = all tokens. */
  topK: number
  topP: number
  minP: number
  seed: number
  /** [n] each. */
  logitBias: { tokens: Int32Array; values: Float32Array }
  repetitionPenalty: number
  presencePenalty: number
  frequencyPenalty: number
  /** Ids beyond the vocabulary have no effect. */
  stop: Int32Array
  minTokens: number
  routerThreshold: number
  /** 0 = all recursions. */
  maxRecursions: number
  logprobs: boolean
  /** From 0 to `mostTopLogprobs`. */
  topLogprobs: number
  /** How many of the most likely tokens beside each token of the prompt, as `topLogprobs`; -1: the prompt is not reported. */
  promptLogprobs: number
  /** The first token of the prompt that is reported, from 1. */
  promptLogprobsFrom: number
  /** Higher is served first. */
  priority: number
}

/** Most tokens that may be listed beside a generated one. */
export const mostTopLogprobs = 20

/** Events arrive in one array, each as `eventStride` numbers: [request id, kind, token, depth, logprob]. */
export const eventStride = 5

/** `kind` of an event. After any kind but `token`, `top`, `prompt` and `prefill` no more events of that request arrive. */
export const eventKind = {
  /** One generated token with its depth and log-probability. */
  token: 0,
  /** A stop token was sampled: with what a `token` event says of it. */
  stop: 1,
  /** maxTokens reached. */
  length: 2,
  abort: 3,
  /** `token` is the index of the code in `errorCodes`; the message comes beside the events. */
  error: 4,
  /**
   * One of the most likely tokens at the position of the request's next `token` or `prompt` event. These events come
   * directly before it, the most likely token first, each with its log-probability and depth 0. None where `topLogprobs` or
   * `promptLogprobs` is 0.
   */
  top: 5,
  /** The next token of the prompt, from `promptLogprobsFrom` on, with depth and log-probability as of a generated one. */
  prompt: 6,
  /**
   * Once, before the first generated token and its `top` events: in the place of a log-probability stand the seconds since the
   * request began to run.
   */
  prefill: 7,
} as const

/** Counts since the engine was made, and the state at this moment. */
export interface EngineStats {
  running: number
  waiting: number
  finished: number
  tokensGenerated: number
  /** Tokens of prompts that the model has computed or that were found in the prefix cache. */
  promptTokens: number
  /** Tokens that were found in the prefix cache instead of being computed. */
  prefixHitTokens: number
  /** Steps of the scheduler. */
  steps: number
  /** Sequences that had to give up their KV blocks to others, and are computed again. */
  preemptions: number
  /** = used + cached + free. */
  kvBlocksTotal: number
  /** Blocks of running sequences; a block that several of them share counts once. */
  kvBlocksUsed: number
  /** Blocks that the prefix cache keeps for later requests, and gives up when others are needed. */
  kvBlocksCached: number
  kvBlocksFree: number
  /** Of all blocks. */
  kvBytesTotal: number
  /** Of the used blocks. */
  kvBytesUsed: number
  /** Bytes that the tokens of the running sequences would take if every layer pass cached every token. */
  kvBytesVanilla: number
  /** [N] prompt and generated tokens that ran 1..N recursions in this engine; those that ran none are not counted. */
  depthHistogram: number[]
}

/** As EngineOptions of lib/engine.ts, complete; kvCacheBytes 0 = the default. */
export interface NativeEngineOptions {
  maxBatchSize: number
  prefillChunk: number
  kvCacheBytes: number
  prefixCache: boolean
}

export interface NativeEngine {
  submit(id: number, prompt: Int32Array, params: NativeGenerateParams): void
  abort(id: number): void
  stats(): EngineStats
  close(): Promise<void>
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

/** What the addon was compiled with of the values that TypeScript repeats; a test compares them. */
export interface NativeConstants {
  errorCodes: string[]
  eventKind: Record<string, number>
  eventStride: number
  mostTopLogprobs: number
}

export interface NativeModelOptions {
  device: string
  dtype: DType
  /** 0 = the device's default. */
  threads: number
  /** Nice value of the threads that compute. */
  nice: number
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
