// What routing computes on a device: gates and chosen depths.
#include "model/routing.h"

#include "model/active_rows.h"
#include "model/host_values.h"

namespace mor {

RoutingRules routing_rules(const Model& model, Ops& ops) {
  RoutingRules rules = routing_rules(model.config());
  if (model.thresholds()) rules.thresholds = read_master(ops, model.thresholds());
  return rules;
}

const std::vector<RouterTensors>& threshold_routers(const Model& model) {
  const ModelTensors& tensors = model.tensors();
  return model.config().router.auxiliary_router ? tensors.auxiliary_routers : tensors.routers;
}

Gates gates_of(const LayerContext& context, const Tensor& gate) {
  if (!context.config.router.gates_update) return {gate, {}};
  const Tensor negative = context.arena.vector(context.ops.master_dtype(), gate.count(), "negative gate");
  const Tensor zeros = context.arena.vector(context.ops.master_dtype(), gate.count(), "zeros");
  zero(context.ops, negative);
  zero(context.ops, zeros);
  // The slope of tanh at 0 is 1, so this adds -gate.
  context.ops.router_gate_backward(gate, zeros, nullptr, Activation::tanh, -1, negative);
  return {gate, negative};
}

Gates expert_gates(const LayerContext& context, const Tensor& scores, const int32_t* index, int64_t count) {
  const RouterConfig& router = context.config.router;
  const Tensor gate = context.arena.vector(context.ops.master_dtype(), count, "gate");
  context.ops.router_gate_forward(scores, index, router.activation, router.alpha, gate);
  return gates_of(context, gate);
}

void add_gated(const LayerContext& context, const Gates& gates, const Tensor& out, const int32_t* from,
               const int32_t* to, const Tensor& stream) {
  // The stream goes first: a gate of 1 leaves exactly 0 of it.
  if (gates.negative) context.ops.scatter_gated_forward(stream, to, gates.negative, to, stream);
  context.ops.scatter_gated_forward(out, from, gates.gate, to, stream);
}

void add_gated_backward(const LayerContext& context, const Gates& gates, const Tensor& out, const int32_t* from,
                        const int32_t* to, const Tensor& stream, const Tensor& d, const Tensor& d_out,
                        const Tensor& d_gate) {
  Ops& ops = context.ops;
  Arena& arena = context.arena;
  ops.scatter_gated_backward(d, to, out, from, gates.gate, d_out, d_gate);
  if (!gates.negative) return;
  // d_gate = <d, out - stream>
  const ArenaScope scope(arena);
  const int64_t n = gates.gate.count();
  const Tensor zeros = arena.vector(ops.master_dtype(), n, "zeros");
  zero(ops, zeros);
  const Tensor minus_one = arena.vector(ops.master_dtype(), n, "minus one");
  ops.router_gate_forward(zeros, nullptr, Activation::sigmoid, -2, minus_one);
  const Tensor update = arena.tensor(out.dtype, n, out.columns(), "update"),
               d_update = arena.tensor(out.dtype, n, out.columns(), "d_update");
  ops.gather_rows(out, from, update);
  ops.scatter_gated_forward(stream, to, minus_one, nullptr, update);
  ops.scatter_gated_backward(d, to, update, nullptr, gates.gate, d_update, d_gate);
  ops.scatter_gated_forward(d, to, gates.negative, to, d);
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
