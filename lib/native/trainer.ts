// A trainer of the addon, and what a step measures.
import type { ErrorCode } from '../errors.js'
import type { NativeReadFile, NativeSavedFile } from './files.js'
import type { DType, NativeModel, Routing } from './model.js'
import type { NativeRanks } from './ranks.js'

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
  /** Whether a router's running thresholds, or the bias of its balancing, stay as they are. */
  holdRouterState: boolean
  /** In place of the model's; null: the model's. */
  capacityWarmupSteps: number | null
  /** The teacher stays in memory until the trainer is disposed, and cannot be trained before. */
  distillation: { teacher: NativeModel; temperature: number; weight: number } | null
  distributed: {
    /** They have one trainer at a time. */
    ranks: NativeRanks
    /** In which gradients travel. */
    gradientDtype: DType
    /** Of float32 gradients that travel together. */
    bucketBytes: number
    /** What the ranks compare, named as in messages. */
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
