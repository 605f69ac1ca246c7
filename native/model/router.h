// One router: scores of rows, forward and backward; linear or MLP (docs/model.md sections 3 and 4).
#pragma once

#include "model/block.h"

namespace mor {

struct RouterActivations {
  Tensor scores;                       ///< [P, n] master
  Tensor gathered, hidden, activated;  ///< MLP only: [P, d], [P, 2d], [P, 2d]
};

/// The score with which a token goes on at least, given the threshold `probability` of sigmoid(score). It is the same
/// for tanh gates, so that 0.5 is score 0. From 1 on no token goes on; down from 0 every token does.
double score_threshold(double probability);

/// The scores of rows x[source[i]] for i < rows.
RouterActivations router_forward(const LayerContext& context, const RouterTensors& weights, const Tensor& x,
                                 const int32_t* source, int64_t rows);

/// Adds to d_x[source[i]], unless d_x is empty, which is for detached inputs (auxiliary router).
void router_backward(const LayerContext& context, const RouterTensors& weights, const RouterTensors& gradients,
                     const RouterActivations& kept, const Tensor& d_scores, const Tensor& x, const int32_t* source,
                     const Tensor& d_x);

}  // namespace mor
