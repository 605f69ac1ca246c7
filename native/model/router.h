// One router: scores of rows, forward and backward; linear or MLP (docs/model.md sections 3 and 4).
// Must not know how scores become a selection.
#pragma once

#include "model/block.h"

namespace mor {

struct RouterActivations {
  Tensor scores;                       ///< [P, n] master
  Tensor gathered, hidden, activated;  ///< MLP only: [P, d], [P, 2d], [P, 2d]
};

/// The score from which a token runs on: sigmoid(score) >= probability, for tanh gates too, so that 0.5 is score 0.
/// Below 0 everything runs, from 1 on nothing.
double score_threshold(double probability);

/// Scores of rows x[source[i]], i < rows.
RouterActivations router_forward(const LayerContext& context, const RouterTensors& weights, const Tensor& x,
                                 const int32_t* source, int64_t rows);

/// d_x[source[i]] += ...; d_x may be empty: the inputs are detached (auxiliary router).
void router_backward(const LayerContext& context, const RouterTensors& weights, const RouterTensors& gradients,
                     const RouterActivations& kept, const Tensor& d_scores, const Tensor& x, const int32_t* source,
                     const Tensor& d_x);

}  // namespace mor
