// ModelConfig: what one model is (docs/model.md sections 1 to 5), checked.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "model/routing_rules.h"
#include "ops/ops.h"

namespace mor {

/// How the angular frequencies of rotary embedding differ from theta^(-2j/hd), so that a longer context fits.
enum class RotaryScaling : uint8_t {
  none,
  linear,  ///< all frequencies are divided by `factor`
  llama3,  ///< as in Llama 3.1: frequencies of a wavelength above original_max_position / low_freq_factor are divided
           ///< by `factor`, those of one below original_max_position / high_freq_factor stay, and between the two the
           ///< result is interpolated (docs/model.md section 1)
};
struct RotaryConfig {
  double theta = 10000;
  RotaryScaling scaling = RotaryScaling::none;
  double factor = 1;                                                               ///< linear and llama3
  double low_freq_factor = 1, high_freq_factor = 4, original_max_position = 8192;  ///< llama3
};

struct RouterConfig {
  RouterType type = RouterType::none;
  Activation activation = Activation::sigmoid;
  bool mlp = false;                ///< d -> 2d -> gelu -> n instead of linear
  bool gates_update = false;       ///< the gate scales F(x) - x, the update of the block, instead of F(x)
  double alpha = 0.1;              ///< scale of the gate
  std::vector<double> capacities;  ///< expert_choice: share of the full sequence per recursion; empty: (N-r+1)/N
  double auxiliary_loss_coefficient = 0.001;
  double z_loss_coefficient = 0;
  double balancing_loss_coefficient = 0.1;
  bool loss_free_balancing = false;
  bool auxiliary_router = false;      ///< a second router, trained on detached inputs, decides at inference
  int64_t capacity_warmup_steps = 0;  ///< steps in which capacities fall from 1 along a cosine; 0: none
  bool selects_by_threshold = false;  ///< expert_choice: training selects by running thresholds instead of top-k
  double threshold_momentum = 0.5;    ///< what a step leaves of a running threshold
};

struct ModelConfig {
  int32_t vocab_size = 0, hidden_size = 0, intermediate_size = 0;
  int32_t num_hidden_layers = 0;  ///< effective depth L
  int32_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0, max_position_embeddings = 0;
  bool qkv_bias = false;  ///< the projections of queries, keys and values have a bias (Qwen2)
  bool qk_norm = false;   ///< every query head and every key head is normalised before rotary embedding (Qwen3)
  RotaryConfig rotary;
  double rms_norm_eps = 1e-5, initializer_range = 0.02;
  bool tie_word_embeddings = true;
  int32_t num_recursions = 1;
  Sharing sharing = Sharing::middle_cycle;
  KvCachePolicy kv_cache = KvCachePolicy::recursion_wise;
  RouterConfig router;

  /// Throws INVALID_CONFIG where tensors of this shape or rows of this routing would not fit their memory. The other
  /// rules are those of lib/config.ts.
  void validate() const;

  int32_t query_size() const { return num_attention_heads * head_dim; }
  int32_t key_value_size() const { return num_key_value_heads * head_dim; }
  int32_t qkv_size() const { return query_size() + 2 * key_value_size(); }
  bool routed() const { return router.type != RouterType::none; }

  int32_t unique_layers() const;
  /// The unique layer applied at effective layer l (docs/model.md section 2).
  int32_t unique_layer(int32_t l) const;

  /// The body is the block that recurs as a whole (cycle and middle_cycle with N > 1). The layers before and after it
  /// run once over every token. With sequence sharing or N = 1 there is no body, and all layers count as before it.
  int32_t body_recursions() const;  ///< N, or 0 where there is no body
  int32_t body_layers() const;      ///< b
  int32_t layers_before() const;    ///< effective layers 0 .. layers_before()-1
  int32_t layers_after() const;

  /// How many of `length` tokens run recursion r = 1..N under expert choice at an optimiser step (for the capacity
  /// warm-up; any step past it gives the final capacity): max(1, floor(c_r length)). warmup_steps: in place of the
  /// router's own.
  int32_t selected_count(int32_t r, int32_t length, int64_t step = INT64_MAX,
                         std::optional<int64_t> warmup_steps = {}) const;
  /// Whether every token runs recursion r (capacity 1).
  bool runs_all(int32_t r) const;
};

const char* sharing_name(Sharing sharing);
const char* kv_cache_name(KvCachePolicy policy);

}  // namespace mor
