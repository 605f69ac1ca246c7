// Pass: allocates the values of the report.
#include "model/pass.h"

#include "model/routing.h"

namespace mor {

namespace {

const Model& host_of(const Model& model, const Workspace& workspace) {
  return workspace.host == nullptr ? model : *workspace.host;
}

}  // namespace

Pass::Pass(const Model& model_, const Workspace& workspace, const ModelTensors* gradients_, const PassOptions& options_,
           int64_t rows)
    : model(model_),
      rules(routing_rules(model_, host_of(model_, workspace).ops())),
      context(model_.context(workspace.ops, workspace.activations, host_of(model_, workspace).interruption())),
      report_arena(workspace.report),
      gradients(gradients_),
      options(options_) {
  const RouterConfig& router = model.config().router;
  const bool distils = options.distillation.teacher != nullptr;
  int64_t n = distils ? 2 * rows : rows;
  if (router.type == RouterType::expert_choice) n += int64_t{3} * recursions() * (router.auxiliary_router ? 2 : 1);
  if (router.type == RouterType::token_choice) n += 2 * int64_t{model.config().num_recursions} + 1;
  report.values = report_arena.vector(ops().master_dtype(), n, "report values");
  zero(ops(), report.values);
  report.losses = report_values(rows, "losses");
  if (distils) report.divergences = report_values(rows, "divergences");
}

Tensor Pass::report_values(int64_t n, const char* name) {
  const Tensor taken = report.values.slice(values_taken_, n).named(name);
  values_taken_ += n;
  return taken;
}

}  // namespace mor
