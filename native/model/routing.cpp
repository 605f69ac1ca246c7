// What routing computes on a device: gates and chosen depths.
#include "model/routing.h"

#include "model/active_rows.h"

namespace mor {

const std::vector<RouterTensors>& threshold_routers(const Model& model) {
  const ModelTensors& tensors = model.tensors();
  return model.config().router.auxiliary_router ? tensors.auxiliary_routers : tensors.routers;
}

Tensor add_gated(const LayerContext& context, const Tensor& out, const Tensor& scores, const int32_t* index,
                 const int32_t* to, const Tensor& stream) {
  const RouterConfig& router = context.config.router;
  const Tensor gate = context.arena.vector(context.ops.master_dtype(), out.rows(), "gate");
  context.ops.router_gate_forward(scores, index, router.activation, router.alpha, gate);
  context.ops.scatter_gated_forward(out, nullptr, gate, to, stream);
  return gate;
}

TokenChoice allocate_token_choice(const LayerContext& context, int64_t rows) {
  TokenChoice choice;
  choice.depth = context.arena.array<int32_t>(rows);
  choice.gate = context.arena.tensor(context.ops.master_dtype(), rows, 1, "gate");
  return choice;
}

void choose_depths(const LayerContext& context, const Model& model, const Tensor& x, TokenChoice& choice) {
  Ops& ops = context.ops;
  const RouterConfig& router = context.config.router;
  const int64_t n = context.config.num_recursions;
  choice.router = router_forward(context, model.tensors().routers[0], x, nullptr, x.rows());
  choice.probabilities = context.arena.tensor(ops.master_dtype(), x.rows(), n, "probabilities");
  const Tensor zeros = context.arena.vector(ops.master_dtype(), 3 * n + 1, "zeros");
  zero(ops, zeros);
  if (!choice.load) {
    choice.load = zeros.slice(0, n);
    choice.p_sum = zeros.slice(n, n);
    choice.z_sum = zeros.slice(2 * n, 1);
  }
  const Tensor bias = model.balancing_bias() ? model.balancing_bias() : zeros.slice(2 * n + 1, n);
  ops.token_choice_forward(choice.router.scores, bias, router.activation, router.alpha, choice.probabilities,
                           choice.depth, choice.gate, choice.load, choice.p_sum, choice.z_sum);
}

}  // namespace mor
