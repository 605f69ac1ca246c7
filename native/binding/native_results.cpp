// One function for each plain object of lib/native/.
#include "binding/native_results.h"

namespace mor::binding {

namespace {

/// Negative in the core means that it does not apply.
Napi::Value or_null(Napi::Env env, double value) {
  return value < 0 ? env.Null() : Napi::Number::New(env, value);
}

double number(int64_t value) {
  return static_cast<double>(value);
}

template <class Value>
Napi::Array numbers(Napi::Env env, const std::vector<Value>& values) {
  const Napi::Array array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i) array.Set(i, static_cast<double>(values[i]));
  return array;
}

/// Empty in the core means that it does not apply.
Napi::Value numbers_or_null(Napi::Env env, const std::vector<double>& values) {
  return values.empty() ? env.Null() : numbers(env, values);
}

}  // namespace

Napi::Value device_list(Napi::Env env, const std::vector<DeviceInfo>& devices) {
  const Napi::Array list = Napi::Array::New(env, devices.size());
  for (uint32_t i = 0; i < devices.size(); ++i) {
    const DeviceInfo& info = devices[i];
    const Napi::Object object = Napi::Object::New(env);
    object.Set("id", info.id);
    object.Set("type", info.type);
    object.Set("name", info.name);
    object.Set("usable", info.usable);
    if (!info.usable) {
      object.Set("code", error_code_name(info.code));
      object.Set("reason", info.reason);
    }
    object.Set("memoryBytes", static_cast<double>(info.memory_bytes));
    if (info.threads > 0) object.Set("threads", info.threads);
    if (!info.instruction_set.empty()) object.Set("instructionSet", info.instruction_set);
    const Napi::Array features = Napi::Array::New(env, info.features.size());
    for (uint32_t f = 0; f < info.features.size(); ++f) features.Set(f, info.features[f]);
    object.Set("features", features);
    if (!info.compute_capability.empty()) object.Set("computeCapability", info.compute_capability);
    list.Set(i, object);
  }
  return list;
}

Napi::Value parameter_list(Napi::Env env, const Parameters& parameters) {
  const Napi::Array list = Napi::Array::New(env, parameters.list().size());
  for (const Parameter& p : parameters.list()) {
    const Napi::Object object = Napi::Object::New(env);
    object.Set("name", p.name);
    object.Set("shape", numbers(env, p.shape));
    object.Set("role", role_name(p.role));
    object.Set("layer", p.layer < 0 ? env.Null() : Napi::Number::New(env, p.layer));
    object.Set("dtype", p.storage == DType::bfloat16 ? "BF16" : "F32");
    object.Set("bytes", number(p.bytes()));
    object.Set("decays", p.decays);
    object.Set("trained", p.trained);
    list.Set(static_cast<uint32_t>(&p - parameters.list().data()), object);
  }
  return list;
}

Napi::Value trainer_tensor_list(Napi::Env env, const Model& model, const TrainerOptions& options) {
  const Napi::Array list = Napi::Array::New(env);
  const Parameters parameters = trained_parameters(model.config(), model.parameters(), options.parameters);
  for (const auto& [name, shape] : Optimizer::whole_state(model, parameters)) {
    const Napi::Object object = Napi::Object::New(env);
    object.Set("name", name);
    object.Set("shape", numbers(env, shape));
    list.Set(list.Length(), object);
  }
  return list;
}

Napi::Object evaluate_stats(Napi::Env env, const StepResult& result) {
  const Napi::Object object = Napi::Object::New(env);
  object.Set("loss", result.loss);
  object.Set("lmLoss", result.lm_loss);
  object.Set("tokens", number(result.tokens));
  object.Set("lossTokens", number(result.targets));
  object.Set("depthHistogram", numbers(env, result.depth_histogram));
  object.Set("routingAccuracy", or_null(env, result.routing_accuracy));
  object.Set("seconds", result.seconds);
  return object;
}

Napi::Object step_stats(Napi::Env env, const StepResult& result) {
  const Napi::Object object = evaluate_stats(env, result);
  object.Set("distillationLoss", result.distillation_loss);
  object.Set("auxiliaryLoss", result.auxiliary_loss);
  object.Set("zLoss", result.z_loss);
  object.Set("balancingLoss", result.balancing_loss);
  object.Set("gradientNorm", result.gradient_norm);
  object.Set("learningRate", result.learning_rate);
  object.Set("flops", result.flops);
  object.Set("vanillaFlops", result.vanilla_flops);
  object.Set("deadTokenRatio", or_null(env, result.dead_token_ratio));
  object.Set("maxVio", or_null(env, result.max_vio));
  object.Set("loadEntropy", or_null(env, result.load_entropy));
  object.Set("selectedShares", numbers_or_null(env, result.selected_shares));
  object.Set("routerThresholds", numbers_or_null(env, result.thresholds));
  object.Set("memoryBytes", static_cast<double>(result.memory_bytes));
  object.Set("step", number(result.step));
  object.Set("recursions", result.recursions);
  object.Set("communicationSeconds", or_null(env, result.communication_seconds));
  object.Set("slowestRank", or_null(env, result.slowest_rank));
  object.Set("slowestRankSeconds", or_null(env, result.slowest_rank_seconds));
  return object;
}

Napi::Value engine_stats(Napi::Env env, const EngineStats& stats) {
  const Napi::Object object = Napi::Object::New(env);
  object.Set("running", number(stats.running));
  object.Set("waiting", number(stats.waiting));
  object.Set("finished", number(stats.finished));
  object.Set("tokensGenerated", number(stats.tokens_generated));
  object.Set("promptTokens", number(stats.prompt_tokens));
  object.Set("steps", number(stats.steps));
  object.Set("preemptions", number(stats.preemptions));
  object.Set("prefixHitTokens", number(stats.prefix_hit_tokens));
  object.Set("kvBlocksTotal", number(stats.kv_blocks_total));
  object.Set("kvBlocksUsed", number(stats.kv_blocks_used));
  object.Set("kvBlocksCached", number(stats.kv_blocks_cached));
  object.Set("kvBlocksFree", number(stats.kv_blocks_free));
  object.Set("kvBytesTotal", static_cast<double>(stats.kv_bytes_total));
  object.Set("kvBytesUsed", static_cast<double>(stats.kv_bytes_used));
  object.Set("kvBytesVanilla", static_cast<double>(stats.kv_bytes_vanilla));
  object.Set("depthHistogram", numbers(env, stats.depth_histogram));
  return object;
}

}  // namespace mor::binding
