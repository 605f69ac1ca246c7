// What tests of models share: a model from a fixture or from a small configuration, and its weights as numbers.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "model/host_values.h"
#include "model/model_passes.h"
#include "ops/ref/ref_ops.h"
#include "test/fixtures/fixture.h"

namespace mor::test {

inline ModelConfig config_of(const Fixture& f) {
  ModelConfig c;
  const auto integer = [&](const char* key) { return static_cast<int32_t>(f.number(key)); };
  c.vocab_size = integer("vocab_size");
  c.hidden_size = integer("hidden_size");
  c.intermediate_size = integer("intermediate_size");
  c.num_hidden_layers = integer("num_hidden_layers");
  c.num_attention_heads = integer("num_attention_heads");
  c.num_key_value_heads = integer("num_key_value_heads");
  c.head_dim = integer("head_dim");
  c.max_position_embeddings = integer("max_position_embeddings");
  c.rotary.theta = f.number("rope_theta");
  if (f.has("rope_scaling.rope_type")) {
    c.rotary.scaling = f.text("rope_scaling.rope_type") == "linear" ? RotaryScaling::linear : RotaryScaling::llama3;
    c.rotary.factor = f.number("rope_scaling.factor");
  }
  if (c.rotary.scaling == RotaryScaling::llama3) {
    c.rotary.low_freq_factor = f.number("rope_scaling.low_freq_factor");
    c.rotary.high_freq_factor = f.number("rope_scaling.high_freq_factor");
    c.rotary.original_max_position = f.number("rope_scaling.original_max_position_embeddings");
  }
  c.qkv_bias = f.has("qkv_bias") && f.boolean("qkv_bias");
  c.qk_norm = f.has("qk_norm") && f.boolean("qk_norm");
  c.rms_norm_eps = f.number("rms_norm_eps");
  c.tie_word_embeddings = f.boolean("tie_word_embeddings");
  if (!f.has("num_recursions")) return c;
  c.num_recursions = integer("num_recursions");
  const std::string sharing = f.text("sharing"), kv = f.text("kv_cache");
  for (const Sharing s : {Sharing::cycle, Sharing::sequence, Sharing::middle_cycle, Sharing::middle_sequence})
    if (sharing == sharing_name(s)) c.sharing = s;
  for (const KvCachePolicy p : {KvCachePolicy::recursion_wise, KvCachePolicy::shared, KvCachePolicy::hybrid})
    if (kv == kv_cache_name(p)) c.kv_cache = p;
  if (!f.has("router.type")) return c;
  RouterConfig& r = c.router;
  r.type = f.text("router.type") == "expert_choice" ? RouterType::expert_choice : RouterType::token_choice;
  const std::string activation = f.text("router.activation");
  r.activation = activation == "softmax" ? Activation::softmax
                 : activation == "tanh"  ? Activation::tanh
                                         : Activation::sigmoid;
  r.mlp = f.text("router.architecture") == "mlp";
  r.gates_update = f.has("router.gated") && f.text("router.gated") == "update";
  r.alpha = f.number("router.alpha");
  r.capacities = f.numbers("router.capacities");
  const auto optional = [&](const char* key, double otherwise) { return f.has(key) ? f.number(key) : otherwise; };
  r.auxiliary_loss_coefficient = optional("router.auxiliary_loss_coefficient", 0.001);
  r.z_loss_coefficient = optional("router.z_loss_coefficient", 0);
  r.balancing_loss_coefficient = optional("router.balancing_loss_coefficient", 0.1);
  r.loss_free_balancing = f.has("router.balancing") && f.text("router.balancing") == "loss_free";
  r.auxiliary_router = f.has("router.auxiliary_router") && f.boolean("router.auxiliary_router");
  return c;
}

/// inference_pass for the logits of all rows.
struct FullLogits {
  std::vector<float> logits;    ///< [sequences * length, vocab]
  std::vector<uint8_t> depths;  ///< [sequences * length]
};
inline FullLogits full_logits(const Model& model, Arena& arena, const Batch& batch, const PassOptions& options) {
  const size_t rows = static_cast<size_t>(batch.sequences) * static_cast<size_t>(batch.length);
  FullLogits result{std::vector<float>(rows * static_cast<size_t>(model.config().vocab_size)),
                    std::vector<uint8_t>(rows)};
  InferenceOutputs outputs;
  outputs.logits = result.logits.data();
  outputs.depths = result.depths.data();
  outputs.logits_rows.resize(rows);
  std::iota(outputs.logits_rows.begin(), outputs.logits_rows.end(), 0);
  inference_pass(model, arena, batch, options, outputs);
  return result;
}

inline void load_weights(const Fixture& f, Model& model) {
  const std::vector<Parameter>& list = model.parameters().list();
  for (size_t i = 0; i < list.size(); ++i) {
    const std::vector<double> values = f.weight(list[i].name).values();
    ASSERT_EQ(static_cast<int64_t>(values.size()), list[i].count()) << list[i].name;
    const std::vector<float> floats(values.begin(), values.end());
    model.set(i, floats.data());
  }
}

/// Initial weights, but biases and running thresholds away from zero and norms of heads away from one, so that what
/// they do shows.
inline void init_with_biases(Model& model, uint64_t seed) {
  model.init(seed);
  std::mt19937 generator(static_cast<uint32_t>(seed));
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < model.parameters().list().size(); ++i) {
    const Parameter& p = model.parameters().list()[i];
    const bool shows = p.name.find("self_attn.") != std::string::npos || p.name == "model.router.thresholds";
    if (p.shape.size() != 1 || !shows) continue;
    std::vector<float> values(static_cast<size_t>(p.count()));
    for (float& v : values) v = (p.role == ParameterRole::norm ? 1.0f : 0.0f) + 0.3f * normal(generator);
    model.set(i, values.data());
  }
}

/// Rows of length + 1 ids as a device batch.
class DeviceBatch {
 public:
  DeviceBatch(Ops& ops, const std::vector<int32_t>& rows, int32_t sequences) : arena_(ops) {
    const int32_t length = static_cast<int32_t>(rows.size()) / sequences - 1, count = sequences * length;
    std::vector<int32_t> host(static_cast<size_t>(2 * count));
    for (int32_t i = 0; i < count; ++i) {
      host[static_cast<size_t>(i)] = rows[static_cast<size_t>(i / length * (length + 1) + i % length)];
      host[static_cast<size_t>(count + i)] = rows[static_cast<size_t>(i / length * (length + 1) + i % length + 1)];
    }
    int32_t* device = arena_.array<int32_t>(2 * count);
    ops.copy_to_device(device, host.data(), host.size() * sizeof(int32_t));
    batch_ = {sequences, length, device, device + count};
  }
  const Batch& get() const { return batch_; }

 private:
  Arena arena_;
  Batch batch_;
};

/// Runs one pass and reads its report. The pass must take exactly the memory that count_memory reports.
template <class PassOf>
PassResult run_pass(const Model& model, Arena& arena, const PassOf& pass_of) {
  const PassMemory need =
      count_memory(model.ops(), [&](const Workspace& counting) { static_cast<void>(pass_of(counting)); });
  Readback readback(model.ops());
  readback.arena().reserve(need.report);
  const size_t reserved = readback.arena().capacity();
  const PassReport report = pass_of(Workspace{model.ops(), arena, readback.arena()});
  EXPECT_EQ(readback.arena().capacity(), reserved);
  readback.fetch(readback.arena().contents().bytes);
  return read_report(model.config(), report, readback);
}
inline PassResult train(const Model& model, Arena& arena, const ModelTensors& gradients, const Batch& batch,
                        const PassOptions& options) {
  return run_pass(model, arena, [&](const Workspace& w) { return training_pass(model, w, gradients, batch, options); });
}
inline PassResult evaluate(const Model& model, Arena& arena, const Batch& batch, const PassOptions& options) {
  return run_pass(model, arena, [&](const Workspace& w) { return evaluation_pass(model, w, batch, options); });
}

/// A zeroed flat master buffer and its views.
class Gradients {
 public:
  explicit Gradients(const Model& model) : arena_(model.ops()) {
    flat_ = arena_.vector(model.ops().master_dtype(), model.parameters().size(), "gradient");
    zero(model.ops(), flat_);
    views_ = model.parameters().gradients(flat_);
  }
  const ModelTensors& views() const { return views_; }
  const Tensor& flat() const { return flat_; }

 private:
  Arena arena_;
  Tensor flat_;
  ModelTensors views_;
};

inline std::vector<int32_t> random_tokens(int64_t n, int32_t vocab, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& t : tokens) t = static_cast<int32_t>(generator() % static_cast<uint32_t>(vocab));
  return tokens;
}

/// A tiny model with odd sizes and grouped queries.
inline ModelConfig tiny_config() {
  ModelConfig c;
  c.vocab_size = 11;
  c.hidden_size = 8;
  c.intermediate_size = 12;
  c.num_hidden_layers = 3;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 4;
  c.max_position_embeddings = 16;
  c.initializer_range = 0.3;
  return c;
}

}  // namespace mor::test
