// Expert-choice recursion (docs/model.md section 3; paper section 2.2.1): every recursion selects its tokens.
#include <algorithm>

#include "model/recursion.h"

namespace mor {

namespace {

double least_score(const Pass& pass, int32_t r) {
  return pass.rules.least_score(r, score_threshold(pass.options.router_threshold));
}

/// Fills the selection of recursion r out of `parent`, by the scores that decide. length: of the batch's sequences.
void select(Pass& pass, int32_t r, int32_t length, const ActiveRows& parent, const Tensor& scores,
            Selection& selection) {
  const ModelConfig& config = pass.model.config();
  const Rows& rows = parent.rows;
  if (pass.options.routing == Routing::threshold) {
    selection.rows = pass.ops().select_threshold(scores, rows.start, rows.key_lists, least_score(pass, r),
                                                 selection.index, selection.start, selection.selected);
    return;
  }
  const int32_t wanted = config.selected_count(r, length, pass.options.step, pass.options.capacity_warmup_steps);
  pass.ops().select_topk(scores, rows.start, rows.key_lists, wanted, selection.index, selection.start,
                         selection.selected);
  selection.rows = {wanted * rows.key_lists, wanted};
}

/// BCE and z-loss of one router's scores at recursion r. Where the pass keeps, d_scores becomes their gradient.
Tensor score_losses(Pass& pass, int32_t r, const Tensor& scores, const Selection& selection, double bce, double z,
                    Tensor& d_scores) {
  Ops& ops = pass.ops();
  const Tensor sums = pass.report_values(3, "router loss sums");
  if (pass.options.keep) {
    d_scores = pass.arena().tensor(ops.master_dtype(), scores.rows(), 1, "d_scores");
    zero(ops, d_scores);
  }
  const double scale = pass.options.router_loss_scale / static_cast<double>(std::max<int64_t>(1, scores.rows()));
  ops.expert_choice_loss(scores, selection.selected, least_score(pass, r), bce * scale, z * scale, sums, d_scores);
  return sums;
}

/// A copy of the scores that the running threshold of recursion r learns from; else empty.
Tensor reported_scores(Pass& pass, int32_t r, const Tensor& scores) {
  if (!pass.options.keep || pass.rules.thresholds.empty() || !pass.rules.asks_router(r)) return {};
  const Tensor copy = pass.report_arena.vector(scores.dtype, scores.rows(), "reported scores");
  pass.ops().copy(copy.data, scores.data, static_cast<size_t>(scores.count()) * dtype_size(scores.dtype));
  return copy;
}

}  // namespace

Tensor expert_choice_forward(Pass& pass, const Tensor& stream, BodyActivations& kept) {
  const ModelConfig& config = pass.model.config();
  const RouterConfig& router = config.router;
  Ops& ops = pass.ops();
  ActiveRows parent = kept.all;
  Tensor x = stream;
  for (int32_t r = 1; r <= pass.recursions(); ++r) {
    const size_t i = static_cast<size_t>(r - 1);
    RecursionActivations recursion;
    recursion.stream = x;
    recursion.router =
        router_forward(pass.context, pass.model.tensors().routers[i], x, parent.rows.source, parent.rows.count);
    if (router.auxiliary_router)
      recursion.auxiliary = router_forward(pass.context, pass.model.tensors().auxiliary_routers[i], x,
                                           parent.rows.source, parent.rows.count);
    recursion.selection = allocate_selection(pass.arena(), parent);
    const bool by_auxiliary = router.auxiliary_router && pass.options.routing == Routing::threshold;
    select(pass, r, kept.all.rows.max_rows, parent, by_auxiliary ? recursion.auxiliary.scores : recursion.router.scores,
           recursion.selection);
    recursion.active = compact_rows(pass.context, parent, recursion.selection, rows_of_first(pass, kept));
    const Rows& rows = recursion.active.rows;

    recursion.sums = score_losses(pass, r, recursion.router.scores, recursion.selection,
                                  router.auxiliary_router ? 0 : router.auxiliary_loss_coefficient,
                                  router.z_loss_coefficient, recursion.d_scores);
    if (router.auxiliary_router)  // the loss trains this router only, so it needs no coefficient
      recursion.auxiliary_sums =
          score_losses(pass, r, recursion.auxiliary.scores, recursion.selection, 1, 0, recursion.d_auxiliary_scores);
    const Tensor next = pass.arena().tensor(x.dtype, x.rows(), x.columns(), "stream");
    ops.copy(next.data, x.data, static_cast<size_t>(x.count()) * dtype_size(x.dtype));
    if (r == 1) kept.shared = allocate_shared_keys(pass, rows.count);
    recursion.run.layers = block_layers_at(pass, r, kept.shared);
    begin_recursion(pass, r, x, rows.source);
    layers_forward(pass, rows, x, recursion.run);
    recursion.gates = expert_gates(pass.context, recursion.router.scores, recursion.selection.index, rows.count);
    add_gated(pass.context, recursion.gates, recursion.run.out, nullptr, rows.source, next);
    parent = recursion.active;
    x = next;
    kept.recursions.push_back(std::move(recursion));
  }
  return x;
}

void expert_choice_backward(Pass& pass, BodyActivations& kept, const Tensor& d) {
  const RouterConfig& router = pass.model.config().router;
  Ops& ops = pass.ops();
  Arena& arena = pass.arena();
  for (size_t i = kept.recursions.size(); i-- > 0;) {
    RecursionActivations& recursion = kept.recursions[i];
    const Rows& rows = recursion.active.rows;
    const int32_t* entering = i == 0 ? kept.all.rows.source : kept.recursions[i - 1].active.rows.source;
    const ArenaScope scope(arena);
    const Tensor d_out = arena.tensor(d.dtype, rows.count, d.columns(), "d_block");
    const Tensor d_gate = arena.vector(ops.master_dtype(), rows.count, "d_gate");
    add_gated_backward(pass.context, recursion.gates, recursion.run.out, nullptr, rows.source, recursion.stream, d,
                       d_out, d_gate);
    ops.router_gate_backward(d_gate, recursion.router.scores, recursion.selection.index, router.activation,
                             router.alpha, recursion.d_scores);
    block_layers_backward(pass, static_cast<int32_t>(i) + 1, rows, kept.shared, recursion.run, d_out);
    ops.add_rows(d_out, rows.source, d);
    router_backward(pass.context, pass.model.tensors().routers[i], pass.gradients->routers[i], recursion.router,
                    recursion.d_scores, recursion.stream, entering, d);
    if (router.auxiliary_router)
      router_backward(pass.context, pass.model.tensors().auxiliary_routers[i], pass.gradients->auxiliary_routers[i],
                      recursion.auxiliary, recursion.d_auxiliary_scores, recursion.stream, entering, {});
  }
}

void expert_choice_report(Pass& pass, const BodyActivations& kept) {
  PassReport& report = pass.report;
  for (size_t i = 0; i < kept.recursions.size(); ++i) {
    const RecursionActivations& recursion = kept.recursions[i];
    RecursionReport& to = report.recursions[i];
    to.entering = recursion.router.scores.rows();
    to.judged = pass.options.routing == Routing::topk && pass.rules.asks_router(static_cast<int32_t>(i) + 1);
    to.scores = reported_scores(pass, static_cast<int32_t>(i) + 1, recursion.router.scores);
    to.sums = recursion.sums;
    to.auxiliary_sums = recursion.auxiliary_sums;
  }
  if (kept.recursions.empty()) return;
  const Rows& last = kept.recursions.back().active.rows;
  int32_t* position = pass.report_arena.array<int32_t>(last.count);
  pass.ops().copy(position, last.position, static_cast<size_t>(last.count) * sizeof(int32_t));
  report.last_position = position;
}

void expert_choice_statistics(const ModelConfig& config, const PassReport& report, const Readback& readback,
                              PassStatistics& statistics) {
  const RouterConfig& router = config.router;
  double agreed = 0, judged = 0;
  for (const RecursionReport& recursion : report.recursions) {
    const double entering = static_cast<double>(std::max<int64_t>(1, recursion.entering));
    const std::vector<double> sums = readback.values(recursion.sums);
    const std::vector<double> deciding = router.auxiliary_router ? readback.values(recursion.auxiliary_sums) : sums;
    const double coefficient = router.auxiliary_router ? 1 : router.auxiliary_loss_coefficient;
    statistics.auxiliary_loss += coefficient * deciding[0] / entering;
    statistics.z_loss += router.z_loss_coefficient * sums[1] / entering;
    if (!recursion.judged) continue;
    agreed += deciding[2];
    judged += entering;
  }
  if (judged > 0) statistics.routing_accuracy = agreed / judged;

  std::vector<bool> alive(static_cast<size_t>(report.length), false);
  const int32_t* position = readback.integers(report.last_position);
  for (int32_t i = 0; i < report.recursions.back().rows; ++i) alive[static_cast<size_t>(position[i])] = true;
  double dead = 0;
  for (const bool any : alive) dead += any ? 0 : 1;
  statistics.dead_token_ratio = dead / static_cast<double>(report.length);
}

}  // namespace mor
