// The body without a router; expert_choice.cpp and token_choice.cpp have the body with one.
#include "model/recursion.h"

#include "model/hidden_states.h"
#include "model/host_values.h"

namespace mor {

namespace {

Tensor plain_forward(Pass& pass, const Tensor& stream, BodyActivations& kept) {
  Tensor x = stream;
  for (int32_t r = 1; r <= pass.recursions(); ++r) {
    RecursionActivations recursion;
    recursion.active = kept.all;
    recursion.active.rows.source = nullptr;
    recursion.run.layers = block_layers_at(pass, r, kept.shared);
    begin_recursion(pass, r, {}, nullptr);
    layers_forward(pass, recursion.active.rows, x, recursion.run);
    x = recursion.run.out;
    kept.recursions.push_back(recursion);
  }
  return x;
}

void plain_backward(Pass& pass, BodyActivations& kept, const Tensor& d) {
  for (size_t i = kept.recursions.size(); i-- > 0;) {
    RecursionActivations& recursion = kept.recursions[i];
    block_layers_backward(pass, static_cast<int32_t>(i) + 1, recursion.active.rows, kept.shared, recursion.run, d);
  }
}

double router_flops(const ModelConfig& config, const RouterActivations& router) {
  if (!router.scores) return 0;
  const double d = config.hidden_size, rows = static_cast<double>(router.scores.rows());
  const double outputs = static_cast<double>(router.scores.columns());
  return 2 * rows * (config.router.mlp ? 2 * d * d + 2 * d * outputs : d * outputs);
}

}  // namespace

const ActiveRows* rows_of_first(const Pass& pass, const BodyActivations& kept) {
  return pass.rules.sees_tokens_that_left() && !kept.recursions.empty() ? &kept.recursions[0].active : nullptr;
}

void begin_recursion(Pass& pass, int32_t r, const Tensor& others, const int32_t* to) {
  const ModelConfig& config = pass.model.config();
  if (pass.hidden_states != nullptr)
    pass.hidden_states->begin_run(config.layers_before() + (r - 1) * config.body_layers(), others, to);
}

Tensor body_forward(Pass& pass, const ActiveRows& all, const Tensor& stream, BodyActivations& kept) {
  kept.all = all;
  switch (pass.model.config().router.type) {
    case RouterType::none:
      kept.shared = allocate_shared_keys(pass, all.rows.count);
      return plain_forward(pass, stream, kept);
    case RouterType::expert_choice:
      return expert_choice_forward(pass, stream, kept);
    case RouterType::token_choice:
      kept.shared = allocate_shared_keys(pass, all.rows.count);
      return token_choice_forward(pass, stream, kept);
  }
  return stream;
}

void body_backward(Pass& pass, BodyActivations& kept, const Tensor& d) {
  allocate_shared_gradients(pass, kept.shared);
  switch (pass.model.config().router.type) {
    case RouterType::none:
      return plain_backward(pass, kept, d);
    case RouterType::expert_choice:
      return expert_choice_backward(pass, kept, d);
    case RouterType::token_choice:
      return token_choice_backward(pass, kept, d);
  }
}

void body_report(Pass& pass, const BodyActivations& kept) {
  const ModelConfig& config = pass.model.config();
  PassReport& report = pass.report;
  for (size_t r = 0; r < kept.recursions.size(); ++r) {
    const Rows& rows = kept.recursions[r].active.rows;
    RecursionReport recursion;
    recursion.rows = rows.count;
    report.recursions.push_back(recursion);
    report_layers(pass, rows, config.body_layers(), pass.rules.queries_only(static_cast<int32_t>(r) + 1));
  }
  for (const RecursionActivations& recursion : kept.recursions)
    for (const RouterActivations* router : {&recursion.router, &recursion.auxiliary})
      report.flops += router_flops(config, *router);
  report.flops += router_flops(config, kept.choice.router);
  if (config.router.type == RouterType::expert_choice) expert_choice_report(pass, kept);
  if (config.router.type == RouterType::token_choice) token_choice_report(pass, kept);
}

std::vector<uint8_t> body_depths(const Pass& pass, const BodyActivations& kept) {
  std::vector<uint8_t> depths(static_cast<size_t>(kept.all.rows.count), 0);
  for (size_t r = 0; r < kept.recursions.size(); ++r) {
    const Rows& rows = kept.recursions[r].active.rows;
    if (rows.source == nullptr) {
      for (uint8_t& depth : depths) depth = static_cast<uint8_t>(r + 1);
      continue;
    }
    for (const int32_t row : read_integers(pass.ops(), rows.source, rows.count))
      depths[static_cast<size_t>(row)] = static_cast<uint8_t>(r + 1);
  }
  return depths;
}

}  // namespace mor
