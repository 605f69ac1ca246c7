// The public names of the package. Whatever is not exported here is internal.
// Must not run anything: the native addon is loaded by the first call that needs it.
export type { ModelType } from './architectures.js'
export { ChatTemplate } from './chat/chat_template.js'
export type { ChatMessage, ChatRole, ChatTextPart } from './chat/messages.js'
export type { RenderOptions } from './chat/render_options.js'
export type { KvCache, ModelConfig, ResolvedConfig, Sharing } from './config.js'
export { modelKind, resolveConfig } from './config.js'
export type { RopeScaling } from './config_rope.js'
export type {
  ExpertChoiceConfig,
  Gated,
  ResolvedRouterConfig,
  RouterConfig,
  TokenChoiceConfig,
} from './config_router.js'
export type { Initialisation } from './convert/layers.js'
export type { ConvertDType, ConvertOptions, ConvertResult } from './convert.js'
export { convert } from './convert.js'
export * from './dataset.js'
export type { DeviceOption } from './devices.js'
export { devices } from './devices.js'
export type { DistributedOptions, JoinOptions, Launcher, Ranks } from './distributed.js'
export { joinRanks, launcher } from './distributed.js'
export type { ChatOptions, EngineOptions } from './engine.js'
export { Engine } from './engine.js'
export type { ErrorCode } from './errors.js'
export { MorError } from './errors.js'
export type { EvaluationOptions, EvaluationProgress, TaskResult } from './evaluate.js'
export { evaluate } from './evaluate.js'
export type { Metric } from './evaluation/metrics.js'
export type {
  EvaluationTask,
  LastWordTask,
  MinimalPairsTask,
  MultipleChoiceTask,
  PerplexityTask,
} from './evaluation/tasks.js'
export { readTasks } from './evaluation/tasks.js'
export type {
  ForwardOptions,
  ForwardResult,
  HiddenStatesOptions,
  HiddenStatesResult,
  LogprobsResult,
  PassOptions,
  PassResult,
} from './forward.js'
export type {
  FinishReason,
  GeneratedToken,
  GenerationResult,
  GenerationTiming,
  PromptToken,
  TokenLogprob,
} from './generation.js'
export { Generation } from './generation.js'
export type { EffectiveLayer } from './layer_map.js'
export { layerMap } from './layer_map.js'
export type { CreateOptions, LoadOptions } from './model.js'
export { Model } from './model.js'
export type { ParameterCount, TokenFlops } from './model_size.js'
export { flopsPerToken, kvBytesPerToken, parameterCount } from './model_size.js'
export type { DeviceInfo } from './native/addon.js'
export type { EngineStats } from './native/engine.js'
export type { DType, MemoryUse, Routing } from './native/model.js'
export type { ParameterGroup } from './parameter_groups.js'
export type { PresetName } from './presets.js'
export { presets } from './presets.js'
export type { GenerateOptions } from './sampling.js'
export type { TrainTokenizerOptions, TrainTokenizerProgress } from './tokenizer/training/train.js'
export { trainTokenizer } from './tokenizer/training/train.js'
export type { Detokenizer } from './tokenizer.js'
export { Tokenizer } from './tokenizer.js'
export type { EvaluateOptions, EvaluateResult, ResumeOptions, StepResult } from './trainer.js'
export { Trainer } from './trainer.js'
export type {
  DepthSchedule,
  DistillationOptions,
  ResolvedTrainerOptions,
  Schedule,
  TrainerOptions,
} from './trainer_options.js'
export type { MaskedRow, TrainingRow } from './training_rows.js'
