// The description of a model's tensors: to add one, add a row here and its view to the header.
#include "model/model_tensors.h"

#include <utility>

namespace mor {

namespace {

using Visit = std::function<void(const Parameter& row, Tensor& view)>;

Parameter row(ParameterRole role, std::string name, std::vector<int64_t> shape) {
  Parameter p;
  p.role = role;
  p.name = std::move(name);
  p.shape = std::move(shape);
  p.decays = role != ParameterRole::norm && role != ParameterRole::bias;
  if (role == ParameterRole::norm) p.initializer = Initializer::ones;
  if (role == ParameterRole::bias) p.initializer = Initializer::zeros;
  return p;
}

void describe_layer(const ModelConfig& config, int32_t u, LayerTensors& t, const Visit& visit) {
  const int64_t d = config.hidden_size, f = config.intermediate_size, q = config.query_size(),
                kv = config.key_value_size();
  const auto add = [&](ParameterRole role, const char* name, std::vector<int64_t> shape, Tensor& view) {
    Parameter p = row(role, concat("model.layers.", u, ".", name), std::move(shape));
    p.layer = u;
    visit(p, view);
  };
  using enum ParameterRole;
  add(norm, "input_layernorm.weight", {d}, t.input_layernorm);
  add(projection, "self_attn.q_proj.weight", {q, d}, t.qkv.weight);
  add(projection, "self_attn.k_proj.weight", {kv, d}, t.qkv.weight);
  add(projection, "self_attn.v_proj.weight", {kv, d}, t.qkv.weight);
  if (config.qkv_bias) {
    add(bias, "self_attn.q_proj.bias", {q}, t.qkv.bias);
    add(bias, "self_attn.k_proj.bias", {kv}, t.qkv.bias);
    add(bias, "self_attn.v_proj.bias", {kv}, t.qkv.bias);
  }
  if (config.qk_norm) {
    add(norm, "self_attn.q_norm.weight", {config.head_dim}, t.qkv.q_norm);
    add(norm, "self_attn.k_norm.weight", {config.head_dim}, t.qkv.k_norm);
  }
  add(projection, "self_attn.o_proj.weight", {d, q}, t.o_proj);
  add(norm, "post_attention_layernorm.weight", {d}, t.post_attention_layernorm);
  add(projection, "mlp.gate_proj.weight", {f, d}, t.gate_up);
  add(projection, "mlp.up_proj.weight", {f, d}, t.gate_up);
  add(projection, "mlp.down_proj.weight", {d, f}, t.down_proj);
}

void describe_router(const ModelConfig& config, const std::string& name, int64_t outputs, float learning_rate_scale,
                     RouterTensors& t, const Visit& visit) {
  const int64_t d = config.hidden_size;
  const auto add = [&](const char* suffix, std::vector<int64_t> shape, Tensor& view) {
    Parameter p = row(ParameterRole::router, name + suffix, std::move(shape));
    p.learning_rate_scale = learning_rate_scale;
    visit(p, view);
  };
  if (config.router.mlp) {
    add(".fc1.weight", {2 * d, d}, t.fc1);
    add(".fc2.weight", {outputs, 2 * d}, t.fc2);
  } else {
    add(".weight", {outputs, d}, t.weight);
  }
}

Tensor tensor_at(void* buffer, int64_t offset, DType dtype, const Parameter& p) {
  void* data = static_cast<char*>(buffer) + offset;
  return p.shape.size() == 1 ? make_vector(data, dtype, p.shape[0], p.name.c_str())
                             : make_tensor(data, dtype, p.shape[0], p.shape[1], p.name.c_str());
}

}  // namespace

void describe_model(const ModelConfig& config, ModelTensors& t, const Visit& visit) {
  const int64_t d = config.hidden_size, vocab = config.vocab_size, n = config.num_recursions;
  const bool expert = config.router.type == RouterType::expert_choice;
  visit(row(ParameterRole::embedding, "model.embed_tokens.weight", {vocab, d}), t.embed_tokens);
  t.layers.resize(static_cast<size_t>(config.unique_layers()));
  for (size_t u = 0; u < t.layers.size(); ++u) describe_layer(config, static_cast<int32_t>(u), t.layers[u], visit);
  visit(row(ParameterRole::norm, "model.norm.weight", {d}), t.norm);
  t.lm_head = t.embed_tokens;
  if (!config.tie_word_embeddings) visit(row(ParameterRole::projection, "lm_head.weight", {vocab, d}), t.lm_head);
  if (config.routed()) t.routers.resize(expert ? static_cast<size_t>(n) : 1);
  if (config.router.auxiliary_router) t.auxiliary_routers.resize(static_cast<size_t>(n));
  for (size_t r = 0; r < t.routers.size(); ++r)
    describe_router(config, expert ? concat("model.routers.", r) : "model.router", expert ? 1 : n, 1, t.routers[r],
                    visit);
  for (size_t r = 0; r < t.auxiliary_routers.size(); ++r)
    describe_router(config, concat("model.auxiliary_routers.", r), 1, 10, t.auxiliary_routers[r], visit);
  const auto adjusted = [&](const char* name, Tensor& view) {
    Parameter bias = row(ParameterRole::bias, name, {n});
    bias.trained = false;
    visit(bias, view);
  };
  if (config.router.type == RouterType::token_choice && config.router.loss_free_balancing)
    adjusted("model.router.balancing_bias", t.balancing_bias);
  if (expert && config.router.selects_by_threshold) adjusted("model.router.thresholds", t.thresholds);
}

const char* role_name(ParameterRole role) {
  constexpr const char* kNames[] = {"embedding", "projection", "norm", "bias", "router"};  // in the order of the enum
  return kNames[static_cast<size_t>(role)];
}

int64_t Parameter::count() const {
  int64_t n = 1;
  for (const int64_t extent : shape) n *= extent;
  return n;
}

Tensor Parameter::in_weights(void* weights) const {
  return tensor_at(weights, offset, storage, *this);
}

Tensor Parameter::in_flat(const Tensor& flat) const {
  if (element < 0) return {};
  return tensor_at(flat.data, element * static_cast<int64_t>(dtype_size(flat.dtype)), flat.dtype, *this);
}

}  // namespace mor
