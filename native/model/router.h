// One router, linear or MLP: scores of rows, forward and backward (docs/model.md sections 3 and 4).
#pragma once

#include "model/block.h"

namespace mor {

struct RouterActivations {
  Tensor scores;                       ///< [P, n] master
  Tensor gathered, hidden, activated;  ///< MLP only: [P, d], [P, 2d], [P, 2d]
};

/// The least score with which a token runs another recursion: sigmoid(score) = probability, also for tanh gates, so
/// that 0.5 is score 0. With probability 0 or less every token does, with 1 or more none.
double score_threshold(double probability);

/// The scores of rows x[source[i]] for i < rows.
RouterActivations router_forward(const LayerContext& context, const RouterTensors& weights, const Tensor& x,
                                 const int32_t* source, int64_t rows);

/// Adds to d_x[source[i]], unless d_x is empty, which is for detached inputs (auxiliary router).
void router_backward(const LayerContext& context, const RouterTensors& weights, const RouterTensors& gradients,
                     const RouterActivations& kept, const Tensor& d_scores, const Tensor& x, const int32_t* source,
                     const Tensor& d_x);

}  // namespace mor
