// What routing computes on a device, for training, evaluation and the engine: gates and chosen depths
// (docs/model.md sections 3 and 4). The rules that need no device are in routing_rules.h.
#pragma once

#include <vector>

#include "model/model.h"
#include "model/router.h"

namespace mor {

/// The routers whose scores decide by threshold, one for each recursion: the auxiliary ones, where the model has them.
const std::vector<RouterTensors>& threshold_routers(const Model& model);

/// Expert choice: stream[to[i]] += g_i out[i], where g_i = alpha * activation(scores[index[i]]). out [R, d] is the
/// output of the block. index null: identity. Returns g [R] master.
Tensor add_gated(const LayerContext& context, const Tensor& out, const Tensor& scores, const int32_t* index,
                 const int32_t* to, const Tensor& stream);

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
