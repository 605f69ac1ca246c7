// One function for each plain object of lib/native/, its keys in the same order.
#include "binding/native_config.h"

#include <algorithm>
#include <cfloat>
#include <cstdint>

namespace mor::binding {

namespace {

constexpr double kBelowOne = 1 - DBL_EPSILON / 2;

double finite(const Input& input) {
  return input.number(-DBL_MAX, DBL_MAX);
}

int32_t count(const Input& input) {
  return input.int32(0, INT32_MAX);
}

RotaryConfig rotary_config(const Input& input) {
  RotaryConfig rotary;
  rotary.theta = finite(input.field("ropeTheta"));
  const Input scaling = input.field("ropeScaling");
  if (scaling.null()) return rotary;
  rotary.scaling = scaling.field("type").choice<RotaryScaling>(
      {{"linear", RotaryScaling::linear}, {"llama3", RotaryScaling::llama3}});
  rotary.factor = finite(scaling.field("factor"));
  if (rotary.scaling == RotaryScaling::linear) return rotary;
  rotary.low_freq_factor = finite(scaling.field("lowFreqFactor"));
  rotary.high_freq_factor = finite(scaling.field("highFreqFactor"));
  rotary.original_max_position = finite(scaling.field("originalMaxPositionEmbeddings"));
  return rotary;
}

RouterConfig router_config(const Input& input) {
  RouterConfig router;
  if (input.null()) return router;
  router.type = input.field("type").choice<RouterType>(
      {{"expert_choice", RouterType::expert_choice}, {"token_choice", RouterType::token_choice}});
  router.activation =
      input.field("activation")
          .choice<Activation>(
              {{"sigmoid", Activation::sigmoid}, {"tanh", Activation::tanh}, {"softmax", Activation::softmax}});
  router.mlp = input.field("architecture").choice<bool>({{"linear", false}, {"mlp", true}});
  router.gates_update = input.field("gated").choice<bool>({{"output", false}, {"update", true}});
  router.alpha = finite(input.field("alpha"));
  for (const Input& capacity : input.field("capacities").items()) router.capacities.push_back(finite(capacity));
  router.auxiliary_loss_coefficient = finite(input.field("auxiliaryLossCoefficient"));
  router.z_loss_coefficient = finite(input.field("zLossCoefficient"));
  router.balancing_loss_coefficient = finite(input.field("balancingLossCoefficient"));
  router.loss_free_balancing = input.field("balancing").choice<bool>({{"loss", false}, {"loss_free", true}});
  router.auxiliary_router = input.field("auxiliaryRouter").boolean();
  router.capacity_warmup_steps = input.field("capacityWarmupSteps").natural();
  router.selects_by_threshold = input.field("selection").choice<bool>({{"topk", false}, {"threshold", true}});
  router.threshold_momentum = input.field("thresholdMomentum").number(0, 1);
  return router;
}

FileDType file_dtype(const Input& input) {
  return input.choice<FileDType>({{"F32", FileDType::F32}, {"BF16", FileDType::BF16}, {"F16", FileDType::F16}});
}

DerivedTensor derived_tensor(const Input& input) {
  DerivedTensor tensor;
  tensor.name = input.field("name").string();
  tensor.dtype = file_dtype(input.field("dtype"));
  for (const Input& source : input.field("sources").items())
    tensor.sources.push_back({source.field("path").string(), source.field("name").string(),
                              file_dtype(source.field("dtype")), source.field("offset").natural()});
  const std::vector<Input> shape = input.field("shape").items();
  tensor.count = 1;
  for (const Input& extent : shape) tensor.count *= extent.int32(0, INT32_MAX);
  tensor.rows = shape.empty() ? 1 : shape[0].int32(0, INT32_MAX);
  const Input values = input.field("values"), order = input.field("rowOrder");
  if (!values.undefined()) tensor.values = values.float32_array();
  if (!values.undefined() && static_cast<int64_t>(tensor.values.size()) != tensor.count)
    values.fail(concat(tensor.count, " values"));
  const Input normal = input.field("normal");
  if (!normal.undefined()) tensor.deviation = normal.field("deviation").number(0, DBL_MAX);
  if (!normal.undefined()) tensor.stream = static_cast<uint64_t>(normal.field("stream").natural());
  if (!order.undefined())
    tensor.order = {order.field("heads").int32(1, INT32_MAX), order.field("interleaves").boolean()};
  if (tensor.order.heads > 0 && tensor.rows % (2 * tensor.order.heads) != 0) order.fail("heads of an even width");
  tensor.padding = input.field("padding").int32(0, INT32_MAX);
  return tensor;
}

std::vector<ParameterOptions> parameter_options(const Input& input) {
  std::vector<ParameterOptions> all;
  for (const Input& item : input.items()) {
    ParameterOptions own;
    own.name = item.field("name").string();
    const Input scale = item.field("learningRateScale"), decay = item.field("weightDecay");
    if (!scale.undefined()) own.learning_rate_scale = static_cast<float>(scale.number(0, FLT_MAX));
    if (!decay.undefined()) own.weight_decay = static_cast<float>(decay.number(0, FLT_MAX));
    own.frozen = item.field("frozen").boolean();
    all.push_back(own);
  }
  return all;
}

std::vector<TokenBias> logit_bias(const Input& input) {
  const std::vector<int32_t> tokens = input.field("tokens").int32_array();
  const std::vector<float> values = input.field("values").float32_array();
  if (values.size() != tokens.size()) input.fail("as many values as tokens");
  std::vector<TokenBias> biases;
  for (size_t i = 0; i < tokens.size(); ++i) biases.push_back({tokens[i], values[i]});
  return biases;
}

}  // namespace

ModelConfig model_config(const Input& input) {
  ModelConfig config;
  config.vocab_size = count(input.field("vocabSize"));
  config.hidden_size = count(input.field("hiddenSize"));
  config.intermediate_size = count(input.field("intermediateSize"));
  config.num_hidden_layers = count(input.field("numHiddenLayers"));
  config.num_attention_heads = count(input.field("numAttentionHeads"));
  config.num_key_value_heads = count(input.field("numKeyValueHeads"));
  config.head_dim = count(input.field("headDim"));
  config.qkv_bias = input.field("qkvBias").boolean();
  config.qk_norm = input.field("qkNorm").boolean();
  config.max_position_embeddings = count(input.field("maxPositionEmbeddings"));
  config.rotary = rotary_config(input);
  config.rms_norm_eps = finite(input.field("rmsNormEps"));
  config.tie_word_embeddings = input.field("tieWordEmbeddings").boolean();
  config.initializer_range = input.field("initializerRange").number(0, DBL_MAX);
  config.num_recursions = count(input.field("numRecursions"));
  config.sharing = input.field("sharing").choice<Sharing>({{"cycle", Sharing::cycle},
                                                           {"sequence", Sharing::sequence},
                                                           {"middle_cycle", Sharing::middle_cycle},
                                                           {"middle_sequence", Sharing::middle_sequence}});
  config.kv_cache = input.field("kvCache").choice<KvCachePolicy>({{"recursion_wise", KvCachePolicy::recursion_wise},
                                                                  {"shared", KvCachePolicy::shared},
                                                                  {"hybrid", KvCachePolicy::hybrid}});
  config.router = router_config(input.field("router"));
  return config;
}

DType dtype(const Input& input) {
  return input.choice<DType>({{"bfloat16", DType::bfloat16}, {"float32", DType::float32}});
}

ModelOptions model_options(const Input& input) {
  constexpr int32_t kMostThreads = 4096, kLowestPriority = 19;
  ModelOptions options;
  options.device = input.field("device").string();
  options.dtype = dtype(input.field("dtype"));
  options.threads = input.field("threads").int32(0, kMostThreads);
  options.nice = input.field("nice").int32(0, kLowestPriority);
  return options;
}

Routing routing(const Input& input) {
  return input.choice<Routing>({{"topk", Routing::topk}, {"threshold", Routing::threshold}});
}

PassOptions forward_options(const Input& input) {
  PassOptions options;
  options.routing = routing(input.field("routing"));
  options.router_threshold = input.field("routerThreshold").number(0, 1);
  options.max_recursions = count(input.field("maxRecursions"));
  return options;
}

JoinOptions join_options(const Input& input) {
  constexpr double kLongest = 1e6;  // seconds that every clock can count
  JoinOptions options;
  options.join_seconds = input.field("joinTimeout").number(1e-3, kLongest);
  options.silence_seconds = input.field("silenceTimeout").number(1e-3, kLongest);
  return options;
}

TrainerOptions trainer_options(const Input& input) {
  TrainerOptions options;
  options.learning_rate = finite(input.field("learningRate"));
  const Input schedule = input.field("schedule");
  options.schedule.type = schedule.field("type").choice<ScheduleType>(
      {{"constant", ScheduleType::constant}, {"cosine", ScheduleType::cosine}, {"trapezoid", ScheduleType::trapezoid}});
  options.schedule.warmup_steps = schedule.field("warmupSteps").natural();
  options.schedule.total_steps = schedule.field("totalSteps").natural();
  options.schedule.cooldown_steps = schedule.field("cooldownSteps").natural();
  options.schedule.minimum_ratio = schedule.field("minimumRatio").number(0, 1);
  options.beta1 = input.field("beta1").number(0, kBelowOne);
  options.beta2 = input.field("beta2").number(0, kBelowOne);
  options.epsilon = input.field("epsilon").number(0, DBL_MAX);
  options.weight_decay = input.field("weightDecay").number(0, DBL_MAX);
  options.gradient_clip = input.field("gradientClip").number(0, DBL_MAX);
  options.recompute = input.field("recompute").boolean();
  options.weight_hash_interval = input.field("weightHashInterval").natural();
  const Input depth = input.field("depthSchedule");
  options.depth.from = depth.field("from").int32(1, INT32_MAX);
  options.depth.steps = depth.field("steps").natural();
  options.depth.dropout = depth.field("dropout").number(0, 1);
  options.parameters = parameter_options(input.field("parameters"));
  options.hold_router_state = input.field("holdRouterState").boolean();
  const Input warmup = input.field("capacityWarmupSteps");
  if (!warmup.null()) options.capacity_warmup_steps = warmup.natural();
  const Input distillation = input.field("distillation");
  if (!distillation.null()) {
    options.distillation.temperature = distillation.field("temperature").number(DBL_MIN, DBL_MAX);
    options.distillation.weight = distillation.field("weight").number(0, 1);
  }
  const Input distributed = input.field("distributed");
  if (!distributed.null()) {
    options.gradient_wire = dtype(distributed.field("gradientDtype"));
    options.bucket_size = distributed.field("bucketBytes").natural() / static_cast<int64_t>(sizeof(float));
  }
  return options;
}

EngineOptions engine_options(const Input& input) {
  EngineOptions options;
  options.max_batch_size = input.field("maxBatchSize").int32(1, INT32_MAX);
  options.prefill_chunk = input.field("prefillChunk").int32(1, INT32_MAX);
  options.kv_cache_bytes = static_cast<size_t>(input.field("kvCacheBytes").natural());
  options.prefix_cache = input.field("prefixCache").boolean();
  return options;
}

GenerateParams generate_params(const Input& input) {
  GenerateParams params;
  params.max_tokens = count(input.field("maxTokens"));
  params.temperature = input.field("temperature").number(0, DBL_MAX);
  params.top_k = static_cast<int32_t>(std::min<int64_t>(input.field("topK").natural(), INT32_MAX));
  params.top_p = input.field("topP").number(0, 1);
  params.min_p = input.field("minP").number(0, 1);
  params.seed = static_cast<uint64_t>(input.field("seed").natural());
  params.logit_bias = logit_bias(input.field("logitBias"));
  params.repetition_penalty = input.field("repetitionPenalty").number(0, DBL_MAX);
  params.presence_penalty = finite(input.field("presencePenalty"));
  params.frequency_penalty = finite(input.field("frequencyPenalty"));
  params.stop = input.field("stop").int32_array();
  params.min_tokens = count(input.field("minTokens"));
  params.router_threshold = input.field("routerThreshold").number(0, 1);
  params.max_recursions = count(input.field("maxRecursions"));
  params.logprobs = input.field("logprobs").boolean();
  params.top_logprobs = input.field("topLogprobs").int32(0, kMostTopLogprobs);
  params.prompt_logprobs = input.field("promptLogprobs").int32(-1, kMostTopLogprobs);
  params.prompt_logprobs_from = input.field("promptLogprobsFrom").int32(1, INT32_MAX);
  params.priority = input.field("priority").int32(INT32_MIN, INT32_MAX);
  return params;
}

std::vector<CheckpointFile> checkpoint_files(const Input& input) {
  std::vector<CheckpointFile> files;
  for (const Input& item : input.items()) {
    CheckpointFile file;
    file.path = item.field("path").string();
    for (const Input& entry : item.field("tensors").items()) {
      TensorLocation location;
      location.name = entry.field("name").string();
      location.dtype = file_dtype(entry.field("dtype"));
      location.offset = entry.field("offset").natural();
      location.bytes = entry.field("bytes").natural();
      const Input heads = entry.field("interleavedHeads");
      if (!heads.undefined()) location.interleaved_heads = heads.int32(0, INT32_MAX);
      file.tensors.push_back(location);
    }
    files.push_back(file);
  }
  return files;
}

std::vector<SavedFile> saved_files(const Input& input) {
  std::vector<SavedFile> files;
  for (const Input& item : input.items()) {
    SavedFile file;
    file.name = item.field("name").string();
    for (const Input& piece : item.field("head").items()) file.head.push_back(piece.bytes());
    for (const Input& tensor : item.field("tensors").items())
      file.tensors.push_back(
          {tensor.field("name").string(),
           tensor.field("dtype").choice<FileDType>({{"F32", FileDType::F32}, {"BF16", FileDType::BF16}})});
    const Input replaces = item.field("replaces");
    if (!replaces.undefined()) file.replaces = replaces.string();
    files.push_back(file);
  }
  return files;
}

std::vector<DerivedFile> derived_files(const Input& input) {
  std::vector<DerivedFile> files;
  for (const Input& item : input.items()) {
    DerivedFile file{item.field("name").string(), item.field("head").bytes(), {}};
    for (const Input& tensor : item.field("tensors").items()) file.tensors.push_back(derived_tensor(tensor));
    files.push_back(file);
  }
  return files;
}

}  // namespace mor::binding
