// What tests of the trainer share: devices, small models of every kind, batches, and a trainer's state as bytes.
#pragma once

#include "device/device.h"
#include "test/model/support.h"
#include "train/trainer.h"

namespace mor::test {

using MakeOps = std::unique_ptr<Ops> (*)();
inline std::unique_ptr<Ops> reference() {
  return std::make_unique<RefOps<double>>();
}
inline std::unique_ptr<Ops> cpu_float32() {
  return make_ops("cpu", DType::float32, 2);
}
inline std::unique_ptr<Ops> cpu_bfloat16() {
  return make_ops("cpu", DType::bfloat16, 2);
}

/// `c` with 3 recursions and routers of this type.
inline ModelConfig routed(ModelConfig c, RouterType type, KvCachePolicy kv) {
  c.num_recursions = 3;
  c.kv_cache = kv;
  c.router.type = type;
  if (type == RouterType::token_choice) {
    c.router.activation = Activation::softmax;
    c.router.alpha = 1;
  }
  return c;
}

inline ModelConfig small_mor(RouterType type, KvCachePolicy kv) {
  ModelConfig c = tiny_config();
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.head_dim = 8;
  c.vocab_size = 61;
  c.max_position_embeddings = 64;
  c.num_hidden_layers = 8;
  return routed(c, type, kv);
}

inline std::vector<ModelConfig> small_models() {
  ModelConfig bias_and_norm = small_mor(RouterType::expert_choice, KvCachePolicy::shared);
  bias_and_norm.qkv_bias = bias_and_norm.qk_norm = true;
  ModelConfig by_threshold = small_mor(RouterType::expert_choice, KvCachePolicy::hybrid);
  by_threshold.router.selects_by_threshold = true;
  return {small_mor(RouterType::none, KvCachePolicy::shared),
          small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise),
          small_mor(RouterType::expert_choice, KvCachePolicy::hybrid),
          small_mor(RouterType::token_choice, KvCachePolicy::shared),
          bias_and_norm,
          by_threshold};
}

inline std::vector<uint8_t> bytes_of(Ops& ops, const Tensor& t) {
  std::vector<uint8_t> bytes(static_cast<size_t>(t.count()) * dtype_size(t.dtype));
  ops.copy_to_host(bytes.data(), t.data, bytes.size());
  return bytes;
}

/// Weights and optimiser state as bytes.
inline std::vector<std::vector<uint8_t>> everything(const Trainer& trainer) {
  const Model& m = trainer.model();
  std::vector<std::vector<uint8_t>> all;
  for (const NamedTensor& t : m.checkpoint_tensors()) all.push_back(bytes_of(m.ops(), t.tensor));
  for (const NamedTensor& t : trainer.state()) all.push_back(bytes_of(m.ops(), t.tensor));
  return all;
}

constexpr int32_t kSequences = 2, kLength = 24;
inline std::vector<int32_t> batch(const ModelConfig& c, uint32_t seed) {
  return random_tokens(kSequences * (kLength + 1), c.vocab_size, seed);
}

}  // namespace mor::test
