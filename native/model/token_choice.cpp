// Token-choice recursion (docs/model.md section 4; paper section 2.2.1): the router chooses each token's depth once.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/host_values.h"
#include "model/recursion.h"

namespace mor {

namespace {

double balancing_coefficient(const RouterConfig& router) {
  return router.loss_free_balancing ? 0 : router.balancing_loss_coefficient;
}

/// How many tokens have chosen, on other ranks too.
double tokens_of(const std::vector<double>& load) {
  return std::max(1.0, std::accumulate(load.begin(), load.end(), 0.0));
}

}  // namespace

Tensor token_choice_forward(Pass& pass, const Tensor& stream, BodyActivations& kept) {
  Ops& ops = pass.ops();
  Arena& arena = pass.arena();
  const int64_t n = pass.model.config().num_recursions;
  kept.choice = allocate_token_choice(pass.context, stream.rows());
  kept.choice.load = pass.report_values(n, "load");
  kept.choice.p_sum = pass.report_values(n, "probability sums");
  kept.choice.z_sum = pass.report_values(1, "z sum");
  choose_depths(pass.context, pass.model, stream, kept.choice);
  if (pass.options.add_loads) {
    std::vector<double> load = read_master(ops, kept.choice.load);
    pass.options.add_loads(load);
    upload(ops, load.data(), kept.choice.load);
  }
  const Tensor out = arena.tensor(stream.dtype, stream.rows(), stream.columns(), "stream");
  ops.copy(out.data, stream.data, static_cast<size_t>(stream.count()) * dtype_size(stream.dtype));

  ActiveRows active = kept.all;  // every token runs recursion 1
  Tensor x = stream;
  const int32_t* depth = kept.choice.depth;
  for (int32_t r = 1; r <= pass.recursions(); ++r) {
    RecursionActivations recursion;
    recursion.active = active;
    recursion.run.layers = block_layers_at(pass, r, kept.shared);
    Rows gathered = active.rows;
    if (r > 1) gathered.source = kept.recursions.back().selection.index;  // x holds the previous recursion's rows
    begin_recursion(pass, r, out, active.rows.source);
    layers_forward(pass, gathered, x, recursion.run);

    const auto select = [&](const RoutingRules::ChosenDepths& chosen) {
      Selection selection = allocate_selection(arena, active);
      selection.rows =
          ops.select_between(depth, active.rows.count, active.rows.start, active.rows.key_lists, chosen.low,
                             chosen.high, selection.index, selection.start, selection.selected);
      return selection;
    };
    recursion.exits = select(pass.rules.leaving_after(r, pass.recursions()));
    int32_t* to = recursion.exits.index;
    if (active.rows.source != nullptr) {
      to = arena.array<int32_t>(recursion.exits.rows.count);
      ops.gather_indices(active.rows.source, recursion.exits.index, recursion.exits.rows.count, to);
    }
    recursion.exit_to = to;
    const Tensor gate = arena.tensor(ops.master_dtype(), recursion.exits.rows.count, 1, "exit gate");
    ops.gather_rows(kept.choice.gate, to, gate);
    recursion.gates = gates_of(pass.context, gate);
    add_gated(pass.context, recursion.gates, recursion.run.out, recursion.exits.index, to, out);

    x = recursion.run.out;
    const bool last = r == pass.recursions();
    if (!last) recursion.selection = select(pass.rules.staying_after(r));
    kept.recursions.push_back(std::move(recursion));
    if (last) break;
    const Selection& deeper = kept.recursions.back().selection;
    active = compact_rows(pass.context, active, deeper, rows_of_first(pass, kept));
    int32_t* depth_of_deeper = arena.array<int32_t>(deeper.rows.count);
    ops.gather_indices(depth, deeper.index, deeper.rows.count, depth_of_deeper);
    depth = depth_of_deeper;
  }
  return out;
}

void token_choice_backward(Pass& pass, BodyActivations& kept, const Tensor& d) {
  const ModelConfig& config = pass.model.config();
  Ops& ops = pass.ops();
  Arena& arena = pass.arena();
  const DType master = ops.master_dtype();
  const int64_t rows = d.rows(), n = config.num_recursions;
  const Tensor d_gate = arena.tensor(master, rows, 1, "d_gate");
  zero(ops, d_gate);
  Tensor deeper;  // gradient of the rows that went on to the next recursion
  for (size_t i = kept.recursions.size(); i-- > 0;) {
    RecursionActivations& recursion = kept.recursions[i];
    const Tensor d_out = arena.tensor(d.dtype, recursion.active.rows.count, d.columns(), "d_block");
    zero(ops, d_out);
    const Tensor d_exit = arena.tensor(master, recursion.exits.rows.count, 1, "d_exit gate");
    add_gated_backward(pass.context, recursion.gates, recursion.run.out, recursion.exits.index, recursion.exit_to,
                       kept.recursions[0].run.kept[0].x, d, d_out, d_exit);
    ops.add_rows(d_exit, recursion.exit_to, d_gate);
    if (deeper) ops.add_rows(deeper, recursion.selection.index, d_out);
    block_layers_backward(pass, static_cast<int32_t>(i) + 1, recursion.active.rows, kept.shared, recursion.run, d_out);
    deeper = d_out;
  }
  if (deeper) ops.add_rows(deeper, nullptr, d);

  // Losses: N sum_j load_j mean_t p_tj, and mean_t logsumexp^2. The loads are counts, so the host may scale them.
  const double scale = pass.options.router_loss_scale / static_cast<double>(std::max<int64_t>(1, rows));
  std::vector<double> p_scale = read_master(ops, kept.choice.load);
  const double tokens = tokens_of(p_scale);
  for (double& load : p_scale)
    load = balancing_coefficient(config.router) * static_cast<double>(n) * load / tokens * scale;
  const Tensor p_scales = arena.vector(master, n, "probability scales");
  upload(ops, p_scale.data(), p_scales);
  const Tensor d_logits = arena.tensor(master, rows, n, "d_logits");
  ops.token_choice_backward(d_gate, kept.choice.router.scores, kept.choice.probabilities, kept.choice.depth,
                            config.router.activation, config.router.alpha, p_scales,
                            config.router.z_loss_coefficient * scale, d_logits);
  router_backward(pass.context, pass.model.tensors().routers[0], pass.gradients->routers[0], kept.choice.router,
                  d_logits, kept.recursions[0].run.kept[0].x, nullptr, d);
}

void token_choice_report(Pass& pass, const BodyActivations& kept) {
  pass.report.load = kept.choice.load;
  pass.report.p_sum = kept.choice.p_sum;
  pass.report.z_sum = kept.choice.z_sum;
}

void token_choice_statistics(const ModelConfig& config, const PassReport& report, const Readback& readback,
                             PassStatistics& statistics) {
  const double rows = static_cast<double>(std::max<int64_t>(1, report.tokens)), n = config.num_recursions;
  statistics.load = readback.values(report.load);
  const std::vector<double> p_sum = readback.values(report.p_sum);
  const double tokens = tokens_of(statistics.load);
  double largest = 0;
  statistics.load_entropy = 0;
  for (size_t j = 0; j < statistics.load.size(); ++j) {
    const double share = statistics.load[j] / tokens;
    statistics.balancing_loss += balancing_coefficient(config.router) * n * share * p_sum[j] / rows;
    largest = std::max(largest, share);
    if (share > 0) statistics.load_entropy -= share * std::log(share);
  }
  statistics.max_vio = largest * n - 1;
  statistics.z_loss = config.router.z_loss_coefficient * readback.values(report.z_sum)[0] / rows;
}

}  // namespace mor
