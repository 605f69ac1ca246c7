// An engine of the addon, and the events by which it reports.

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
