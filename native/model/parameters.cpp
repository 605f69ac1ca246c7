// Parameters: building the table and the views. Must not know of devices or of what is computed with the tensors.
#include "model/parameters.h"

namespace mor {

namespace {
constexpr int64_t kAlignment = 64;  // elements, so that every fused matrix starts on a cache line in any dtype
}

Parameters::Parameters(const ModelConfig& config) : config_(config) {
  config.validate();
  const int64_t d = config.hidden_size, f = config.intermediate_size;
  add("model.embed_tokens.weight", config.vocab_size, d);
  for (int32_t u = 0; u < config.unique_layers(); ++u) {
    const std::string layer = concat("model.layers.", u, ".");
    add(layer + "input_layernorm.weight", 0, d);
    add(layer + "self_attn.q_proj.weight", config.query_size(), d);
    add(layer + "self_attn.k_proj.weight", config.key_value_size(), d, true);
    add(layer + "self_attn.v_proj.weight", config.key_value_size(), d, true);
    add(layer + "self_attn.o_proj.weight", d, config.query_size());
    add(layer + "post_attention_layernorm.weight", 0, d);
    add(layer + "mlp.gate_proj.weight", f, d);
    add(layer + "mlp.up_proj.weight", f, d, true);
    add(layer + "mlp.down_proj.weight", d, f);
  }
  add("model.norm.weight", 0, d);
  if (!config.tie_word_embeddings) add("lm_head.weight", config.vocab_size, d);
  if (config.router.type == RouterType::token_choice) add_router("model.router", config.num_recursions, 1);
  if (config.router.type == RouterType::expert_choice)
    for (int32_t r = 0; r < config.num_recursions; ++r) add_router(concat("model.routers.", r), 1, 1);
  if (config.router.auxiliary_router)
    for (int32_t r = 0; r < config.num_recursions; ++r) add_router(concat("model.auxiliary_routers.", r), 1, 10);
}

int64_t Parameters::add(const std::string& name, int64_t rows, int64_t columns, bool follows_previous) {
  Parameter p;
  p.name = name;
  p.vector = rows == 0;
  p.rows = p.vector ? 1 : rows;
  p.columns = columns;
  if (!follows_previous) size_ = (size_ + kAlignment - 1) / kAlignment * kAlignment;
  p.offset = size_;
  size_ += p.count();
  list_.push_back(p);
  return static_cast<int64_t>(list_.size()) - 1;
}

void Parameters::add_router(const std::string& name, int64_t outputs, float learning_rate_scale) {
  const int64_t d = config_.hidden_size;
  const size_t first = list_.size();
  if (config_.router.mlp) {
    add(name + ".fc1.weight", 2 * d, d);
    add(name + ".fc2.weight", outputs, 2 * d);
  } else {
    add(name + ".weight", outputs, d);
  }
  for (size_t i = first; i < list_.size(); ++i) list_[i].learning_rate_scale = learning_rate_scale;
}

int64_t Parameters::count() const {
  int64_t n = 0;
  for (const Parameter& p : list_) n += p.count();
  return n;
}

Tensor Parameters::view(void* buffer, DType dtype, int64_t index, int64_t rows) const {
  const Parameter& p = list_[static_cast<size_t>(index)];
  void* data = static_cast<char*>(buffer) + p.offset * static_cast<int64_t>(dtype_size(dtype));
  return p.vector ? make_vector(data, dtype, p.columns, p.name.c_str())
                  : make_tensor(data, dtype, rows, p.columns, p.name.c_str());
}

ModelTensors Parameters::views(void* buffer, DType dtype) const {
  ModelTensors t;
  int64_t index = 0;
  const auto next = [&](int64_t rows) { return view(buffer, dtype, index++, rows); };
  const auto own = [&] { return next(list_[static_cast<size_t>(index)].rows); };
  t.embed_tokens = own();
  for (int32_t u = 0; u < config_.unique_layers(); ++u) {
    LayerTensors layer;
    layer.input_layernorm = own();
    layer.qkv = next(config_.qkv_size());
    layer.q_proj = layer.qkv.slice(0, config_.query_size());
    index += 2;  // k_proj and v_proj lie in qkv
    layer.o_proj = own();
    layer.post_attention_layernorm = own();
    layer.gate_up = next(2 * static_cast<int64_t>(config_.intermediate_size));
    index += 1;  // up_proj lies in gate_up
    layer.down_proj = own();
    t.layers.push_back(layer);
  }
  t.norm = own();
  t.lm_head = config_.tie_word_embeddings ? t.embed_tokens : own();
  const auto router = [&] {
    RouterTensors r;
    if (config_.router.mlp) {
      r.fc1 = own();
      r.fc2 = own();
    } else {
      r.weight = own();
    }
    return r;
  };
  const int32_t routers = config_.router.type == RouterType::token_choice ? 1
                          : config_.routed()                              ? config_.num_recursions
                                                                          : 0;
  for (int32_t r = 0; r < routers; ++r) t.routers.push_back(router());
  if (config_.router.auxiliary_router)
    for (int32_t r = 0; r < routers; ++r) t.auxiliary_routers.push_back(router());
  return t;
}

std::vector<ParameterSegment> Parameters::segments(float weight_decay) const {
  std::vector<ParameterSegment> segments;
  for (const Parameter& p : list_) {
    ParameterSegment s;
    s.offset = p.offset;
    s.count = p.count();
    s.weight_decay = p.vector ? 0 : weight_decay;
    s.learning_rate_scale = p.learning_rate_scale;
    segments.push_back(s);
  }
  return segments;
}

}  // namespace mor
