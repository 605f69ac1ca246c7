// Which tensors a model has: what each one is, and the views in which the passes use them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "model/config.h"

namespace mor {

enum class ParameterRole : uint8_t { embedding, projection, norm, bias, router };
const char* role_name(ParameterRole role);

/// normal: every element drawn from N(0, initializer_range^2).
enum class Initializer : uint8_t { ones, zeros, normal };

struct Parameter {
  std::string name;            ///< as in checkpoints: Hugging Face's, docs/model.md section 9
  std::vector<int64_t> shape;  ///< as in checkpoints: [rows, columns], or [elements] of a vector
  ParameterRole role = ParameterRole::projection;
  int32_t layer = -1;              ///< unique layer; -1 for a tensor that belongs to no layer
  DType storage = DType::float32;  ///< of the weights
  Initializer initializer = Initializer::normal;
  bool decays = true;             ///< takes part in weight decay (docs/model.md section 6)
  bool trained = true;            ///< by the optimiser, which has moments of it
  bool frozen = false;            ///< would be trained, but a trainer leaves it as it is (train/parameter_options.h)
  float learning_rate_scale = 1;  ///< 10 for auxiliary routers (docs/model.md section 3)
  bool fused = false;             ///< its rows follow those of the parameter before it: together they are one view
  int64_t offset = 0;             ///< bytes into the weights
  int64_t element = -1;           ///< index into flat buffers of master dtype; -1: no gradient of it is computed

  int64_t count() const;
  int64_t bytes() const { return count() * static_cast<int64_t>(dtype_size(storage)); }
  /// The tensor itself, in the buffer of a model's weights.
  Tensor in_weights(void* weights) const;
  /// Its part of a flat buffer of master dtype that reaches so far. Empty if it has no gradient.
  Tensor in_flat(const Tensor& flat) const;
};

/// One layer's tensors, as weights or as their gradients. f: intermediate size, d: hidden size.
struct LayerTensors {
  Tensor input_layernorm;           ///< [d]
  QkvTensors qkv;                   ///< q_proj, k_proj and v_proj, and their biases and norms where the config has them
  Tensor o_proj;                    ///< [d, h*hd]
  Tensor post_attention_layernorm;  ///< [d]
  Tensor gate_up;                   ///< [2f, d] gate_proj and up_proj
  Tensor down_proj;                 ///< [d, f]
};

/// A linear router has `weight`, an MLP router `fc1` and `fc2`.
struct RouterTensors {
  Tensor weight, fc1, fc2;
};

struct ModelTensors {
  Tensor embed_tokens, norm;
  Tensor lm_head;                                ///< embed_tokens where the two are tied
  std::vector<LayerTensors> layers;              ///< by unique layer
  std::vector<RouterTensors> routers;            ///< expert_choice: one per recursion; token_choice: one
  std::vector<RouterTensors> auxiliary_routers;  ///< expert_choice with auxiliary routers: one per recursion
  // Both [N] master, and not among gradients.
  Tensor balancing_bias;  ///< token_choice with loss-free balancing only
  Tensor thresholds;      ///< expert_choice that selects by threshold only
};

/// Calls `visit` once for every tensor of a model, in the order of checkpoints. `row` describes the tensor, except for
/// its storage and place, which Parameters decides; `view` is the member of `tensors` that it belongs to. Successive
/// tensors of one view are fused: the rows of each follow those of the one before (q_proj, k_proj and v_proj, say).
void describe_model(const ModelConfig& config, ModelTensors& tensors,
                    const std::function<void(const Parameter& row, Tensor& view)>& visit);

}  // namespace mor
