// What routing computes on a device, for training, evaluation and the engine: gates and chosen depths
// (docs/model.md sections 3 and 4). The rules that need no device are in routing_rules.h.
#pragma once

#include <vector>

#include "model/model.h"
#include "model/router.h"

namespace mor {

/// The rules of a model, with its running thresholds, if it has any; it then waits for the device. ops: what reads
/// them, if the model's own are another thread's.
RoutingRules routing_rules(const Model& model, Ops& ops);
inline RoutingRules routing_rules(const Model& model) {
  return routing_rules(model, model.ops());
}

/// The routers whose scores decide by threshold, one for each recursion: the auxiliary ones, where the model has them.
const std::vector<RouterTensors>& threshold_routers(const Model& model);

/// The factors with which outputs of the block are taken into the stream.
struct Gates {
  Tensor gate;      ///< [n] master
  Tensor negative;  ///< -gate where the gate scales the update of the block (RouterConfig::gates_update), else empty
};
/// Of gates that are there.
Gates gates_of(const LayerContext& context, const Tensor& gate);
/// Expert choice: g_i = alpha * activation(scores[index[i]]) for `count` rows. index null: identity.
Gates expert_gates(const LayerContext& context, const Tensor& scores, const int32_t* index, int64_t count);

/// stream[to[i]] += g_i out[from[i]], or g_i (out[from[i]] - stream[to[i]]) where the gate scales the update. out [R,
/// d] is the output of the block. from null: identity. Where g_i is 1, the row becomes the output bit for bit in the
/// second case.
void add_gated(const LayerContext& context, const Gates& gates, const Tensor& out, const int32_t* from,
               const int32_t* to, const Tensor& stream);
/// stream: before add_gated. d: the gradient of the stream after it becomes that of the stream before it, less what
/// flows through `out`. Writes d_gate [n] master, and the rows `from` of d_out.
void add_gated_backward(const LayerContext& context, const Gates& gates, const Tensor& out, const int32_t* from,
                        const int32_t* to, const Tensor& stream, const Tensor& d, const Tensor& d_out,
                        const Tensor& d_gate);

/// Token choice: the decisions for the rows that enter the block, which are made once.
struct TokenChoice {
  int32_t* depth = nullptr;   ///< [R] recursions chosen
  Tensor gate;                ///< [R] master: the factor of the block's output at the depth chosen
  Tensor load, p_sum, z_sum;  ///< [N], [N], [1] master: what the losses are made of (Ops::token_choice_forward)
  RouterActivations router;
  Tensor probabilities;  ///< [R, N] master
};
/// Memory for the depths and gates of `rows` rows.
TokenChoice allocate_token_choice(const LayerContext& context, int64_t rows);
/// Decides for the rows of x [R, d]. Adds to choice.load, p_sum and z_sum, unless they are empty.
void choose_depths(const LayerContext& context, const Model& model, const Tensor& x, TokenChoice& choice);

}  // namespace mor
