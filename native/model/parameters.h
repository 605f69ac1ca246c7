// Parameters: the one table of a model's tensors (name, shape, offset, weight decay, initialiser) and views into flat
// buffers laid out by it. Checkpoint, optimiser, initialisation and tests walk this table; nobody else lists tensors.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"

namespace mor {

struct Parameter {
  std::string name;  ///< Hugging Face name, docs/model.md section 9
  int64_t rows = 0;  ///< 1 for vectors
  int64_t columns = 0;
  bool vector = false;  ///< norm weights: rank 1 in checkpoints, initialised to 1, no weight decay
  int64_t offset = 0;   ///< elements into every flat buffer
  float learning_rate_scale = 1;
  int64_t count() const { return rows * columns; }
};

/// One layer's tensors, as weights or as their gradients.
struct LayerTensors {
  Tensor input_layernorm, qkv /*[q+2kv, d]*/, q_proj /*its first rows*/, o_proj, post_attention_layernorm,
      gate_up /*[2f, d]*/, down_proj;
};
/// Linear: weight. MLP: fc1 and fc2.
struct RouterTensors {
  Tensor weight, fc1, fc2;
};
struct ModelTensors {
  Tensor embed_tokens, norm, lm_head;
  std::vector<LayerTensors> layers;    ///< by unique layer
  std::vector<RouterTensors> routers;  ///< expert_choice: one per recursion; token_choice: one
  std::vector<RouterTensors> auxiliary_routers;
};

class Parameters {
 public:
  explicit Parameters(const ModelConfig& config);

  const std::vector<Parameter>& list() const { return list_; }
  /// Elements of a flat buffer, gaps for alignment included.
  int64_t size() const { return size_; }
  /// Trainable scalars (the sum of the list).
  int64_t count() const;
  /// Views into a flat buffer of `size()` elements.
  ModelTensors views(void* buffer, DType dtype) const;
  /// Stretches for the optimiser; weight decay on every matrix and on no norm (docs/model.md section 6).
  std::vector<ParameterSegment> segments(float weight_decay) const;

 private:
  int64_t add(const std::string& name, int64_t rows, int64_t columns, bool follows_previous = false);
  void add_router(const std::string& name, int64_t outputs, float learning_rate_scale);
  Tensor view(void* buffer, DType dtype, int64_t index, int64_t rows) const;

  const ModelConfig config_;
  std::vector<Parameter> list_;
  int64_t size_ = 0;
};

}  // namespace mor
