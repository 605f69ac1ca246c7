// The surface of the native addon as types: what native/binding implements, and no more.
// Must not load anything (native_loader does) and must not know the public classes.
import type { ErrorCode } from './errors.js'

export type DType = 'bfloat16' | 'float32'
export type SafetensorsFloat = 'F32' | 'BF16' | 'F16'
export type Routing = 'topk' | 'threshold'

/** One compute device, usable or not. Returned as it is by the public `devices()`. */
export interface DeviceInfo {
  /** 'cpu', 'cuda:0', … : what `device` options accept; 'cuda' where no GPU can be listed, to say why. */
  id: string
  type: 'cpu' | 'cuda'
  /** The name the vendor gives it. */
  name: string
  usable: boolean
  /** Of the error that using it throws; present exactly when `usable` is false. */
  code?: ErrorCode
  /** Why it cannot be used and what to do; present exactly when `usable` is false. */
  reason?: string
  /** Total memory in bytes. */
  memoryBytes: number
  /** Hardware threads that compute uses by default (CPU). */
  threads?: number
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
  /** One fraction per recursion; empty = the integer rule of docs/model.md section 3. */
  capacities: number[]
  auxiliaryLossCoefficient: number
  zLossCoefficient: number
  balancingLossCoefficient: number
  balancing: 'loss' | 'loss_free'
  auxiliaryRouter: boolean
  capacityWarmupSteps: number
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
  tensors: { name: string; dtype: SafetensorsFloat; offset: number; bytes: number }[]
}

export interface NativeForwardResult {
  /** [batch * length * vocab] */
  logits: Float32Array
  /** [batch * length], recursions run by each token: 1..N */
  depths: Uint8Array
}

export interface NativeModel {
  /** Every tensor of a checkpoint, in table order, as it is stored. */
  parameters(): { name: string; shape: number[]; dtype: 'F32' | 'BF16' }[]
  init(seed: number): Promise<void>
  read(files: NativeReadFile[], signal?: AbortSignal): Promise<void>
  /** Writes `header` (the complete safetensors prefix) and then the tensors in the order of `names`, each in its dtype; syncs. */
  write(path: string, header: Uint8Array, names: string[], dtypes: ('F32' | 'BF16')[]): Promise<void>
  /** tokens: [batch * length] */
  forward(
    tokens: Int32Array,
    batch: number,
    length: number,
    options: { routing: Routing; routerThreshold: number; maxRecursions: number },
  ): Promise<NativeForwardResult>
  memory(): MemoryUse
  dispose(): void
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
}

/** Measurements of one optimizer step. */
export interface NativeStepStats {
  /** lmLoss plus every weighted auxiliary term, nats per token. */
  loss: number
  /** Mean cross-entropy, nats per token. */
  lmLoss: number
  auxiliaryLoss: number
  zLoss: number
  balancingLoss: number
  /** Global L2 norm before clipping. */
  gradientNorm: number
  learningRate: number
  /** Predicted tokens of this step, all micro-batches together. */
  tokens: number
  seconds: number
  /** Executed floating-point operations, forward and backward, head included. */
  flops: number
  /** What a vanilla model of the same effective depth would have executed. */
  vanillaFlops: number
  /** Tokens whose depth was 1..N. */
  depthHistogram: number[]
  /** Share of routing decisions in which the causal threshold agrees with top-k; null without expert-choice. */
  routingAccuracy: number | null
  deadTokenRatio: number | null
  /** (largest load - mean load) / mean load; null without token-choice. */
  maxVio: number | null
  /** Entropy of the loads in nats; null without token-choice. */
  loadEntropy: number | null
  memoryBytes: number
  /** Optimizer steps done so far, this one included. */
  step: number
}

export interface NativeEvaluateStats {
  loss: number
  lmLoss: number
  tokens: number
  depthHistogram: number[]
  routingAccuracy: number | null
  seconds: number
}

/** What a trainer must keep to go on bit for bit: optimizer tensors, the step and the rest as opaque JSON. */
export interface NativeTrainerState {
  /** `exp_avg.<parameter>`, `exp_avg_sq.<parameter>` and, for bfloat16 models, `master.<parameter>`. */
  names: { name: string; shape: number[]; dtype: SafetensorsFloat }[]
  step: number
  json: string
}

export interface NativeTrainer {
  /** tokens: [microBatches * batch * (length + 1)] */
  step(tokens: Int32Array, microBatches: number, batch: number, length: number): Promise<NativeStepStats>
  /** tokens: [batch * (length + 1)] */
  evaluate(tokens: Int32Array, batch: number, length: number, routing: Routing): Promise<NativeEvaluateStats>
  state(): NativeTrainerState
  /**
   * As NativeModel.write, always in float32. `names` are those of `state()` or of the model's parameters, the latter for
   * what has no master copy: every tensor of a float32 model, and the balancing bias of any.
   */
  write(path: string, header: Uint8Array, names: string[]): Promise<void>
  read(files: NativeReadFile[], json: string): Promise<void>
  dispose(): void
}

export interface NativeGenerateParams {
  maxTokens: number
  temperature: number
  /** 0 = all tokens. */
  topK: number
  topP: number
  seed: number
  stop: Int32Array
  routerThreshold: number
  /** 0 = all recursions. */
  maxRecursions: number
  logprobs: boolean
  /** From 0 to `mostTopLogprobs`. */
  topLogprobs: number
  /** Higher is served first. */
  priority: number
}

/** Most tokens that may be listed beside a generated one. */
export const mostTopLogprobs = 20

/** Events arrive packed, `eventStride` numbers each: [request id, kind, token, depth, logprob]. */
export const eventStride = 5

/** `kind` of an event. After any kind but `token` and `top` no more events of that request arrive. */
export const eventKind = {
  /** One generated token with its depth and log-probability. */
  token: 0,
  /** A stop token was sampled; it is not sent as a token event. */
  stop: 1,
  /** maxTokens reached. */
  length: 2,
  abort: 3,
  /** The `token` field holds the index of the code in `errorCodes`; the message comes beside the events. */
  error: 4,
  /**
   * One of the most likely tokens in the place of the request's next `token` event, which follows these directly; most
   * likely first, each with its log-probability; depth is 0. None where `topLogprobs` is 0.
   */
  top: 5,
} as const

/** Counters since the engine was made, and what holds at this moment. */
export interface EngineStats {
  running: number
  waiting: number
  finished: number
  tokensGenerated: number
  /** Of prompts that have been through the model or were found in the prefix cache. */
  promptTokens: number
  /** Tokens that were found in the prefix cache instead of being computed. */
  prefixHitTokens: number
  /** Steps of the scheduler. */
  steps: number
  /** Sequences thrown out, to be computed again: for want of KV blocks, or for a request of higher priority. */
  preemptions: number
  /** = used + cached + free. */
  kvBlocksTotal: number
  /** By running sequences; a block that several share counts once. */
  kvBlocksUsed: number
  /** Kept by the prefix cache for requests to come, and given up when blocks are needed. */
  kvBlocksCached: number
  kvBlocksFree: number
  /** Of all blocks. */
  kvBytesTotal: number
  /** Of the used blocks. */
  kvBytesUsed: number
  /** What the tokens of the running sequences would take if every layer pass cached every token. */
  kvBytesVanilla: number
  /** [N] prompt and generated tokens that ran 1..N recursions here; those that ran none are not in it. */
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
}

/** The addon. Errors it throws or rejects with carry an `ErrorCode` as `code`. */
export interface NativeAddon {
  devices(): DeviceInfo[]
  /** Every tensor of a model with weights of `dtype`, in the order of its checkpoint. Allocates none of them. */
  parameterTable(config: NativeConfig, dtype: DType): NativeParameter[]
  /** Allocates the weights without initialising them. `threads` 0 = the device's default. */
  createModel(config: NativeConfig, options: { device: string; dtype: DType; threads: number }): Promise<NativeModel>
  createTrainer(model: NativeModel, options: NativeTrainerOptions): Promise<NativeTrainer>
  /** `onEvents` gets packed events and one message for each error event among them, in order. */
  createEngine(
    model: NativeModel,
    options: NativeEngineOptions,
    onEvents: (events: Float64Array, messages: string[]) => void,
  ): NativeEngine
}
