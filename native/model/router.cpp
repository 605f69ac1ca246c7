// One router, forward and backward.
#include "model/router.h"

#include <cmath>
#include <limits>

namespace mor {

double score_threshold(double probability) {
  if (probability <= 0) return -std::numeric_limits<double>::infinity();
  if (probability >= 1) return std::numeric_limits<double>::infinity();
  return std::log(probability / (1 - probability));
}

RouterActivations router_forward(const LayerContext& context, const RouterTensors& weights, const Tensor& x,
                                 const int32_t* source, int64_t rows) {
  Ops& ops = context.ops;
  Arena& arena = context.arena;
  const bool mlp = static_cast<bool>(weights.fc1);
  RouterActivations a;
  a.scores = arena.tensor(ops.master_dtype(), rows, mlp ? weights.fc2.rows() : weights.weight.rows(), "router scores");
  if (!mlp) {
    ops.router_scores_forward(x, source, weights.weight, a.scores);
    return a;
  }
  a.gathered = arena.tensor(ops.compute_dtype(), rows, x.columns(), "router input");
  a.hidden = arena.tensor(ops.compute_dtype(), rows, weights.fc1.rows(), "router hidden");
  a.activated = arena.tensor(ops.compute_dtype(), rows, weights.fc1.rows(), "router activated");
  ops.gather_rows(x, source, a.gathered);
  ops.linear_forward(a.gathered, weights.fc1, {}, a.hidden);
  ops.gelu_forward(a.hidden, a.activated);
  ops.router_scores_forward(a.activated, nullptr, weights.fc2, a.scores);
  return a;
}

void router_backward(const LayerContext& context, const RouterTensors& weights, const RouterTensors& gradients,
                     const RouterActivations& kept, const Tensor& d_scores, const Tensor& x, const int32_t* source,
                     const Tensor& d_x) {
  Ops& ops = context.ops;
  Arena& arena = context.arena;
  if (!weights.fc1) {
    ops.router_scores_backward(d_scores, x, source, weights.weight, d_x, gradients.weight);
    return;
  }
  const ArenaScope scope(arena);
  const int64_t rows = kept.hidden.rows(), width = kept.hidden.columns();
  const Tensor d_activated = arena.tensor(ops.compute_dtype(), rows, width, "d_router activated");
  const Tensor d_hidden = arena.tensor(ops.compute_dtype(), rows, width, "d_router hidden");
  zero(ops, d_activated);
  ops.router_scores_backward(d_scores, kept.activated, nullptr, weights.fc2, d_activated, gradients.fc2);
  ops.gelu_backward(d_activated, kept.hidden, d_hidden);
  ops.linear_backward_weight(d_hidden, kept.gathered, gradients.fc1);
  if (d_x) {
    const Tensor d_gathered = arena.tensor(ops.compute_dtype(), rows, x.columns(), "d_router input");
    ops.linear_backward_input(d_hidden, weights.fc1, d_gathered);
    ops.add_rows(d_gathered, source, d_x);
  }
}

}  // namespace mor
