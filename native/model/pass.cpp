// Runs layers over one set of rows, and keeps or recomputes their activations.
#include "model/pass.h"

namespace mor {

Pass::Pass(const Model& model_, const Workspace& workspace, const ModelTensors* gradients_, const PassOptions& options_,
           int64_t rows)
    : model(model_),
      rules(routing_rules(model_.config())),
      context(model_.context(workspace.ops, workspace.activations)),
      report_arena(workspace.report),
      gradients(gradients_),
      options(options_) {
  const RouterConfig& router = model.config().router;
  int64_t n = rows;
  if (router.type == RouterType::expert_choice) n += int64_t{3} * recursions() * (router.auxiliary_router ? 2 : 1);
  if (router.type == RouterType::token_choice) n += 2 * int64_t{model.config().num_recursions} + 1;
  report.values = report_arena.vector(ops().master_dtype(), n, "report values");
  zero(ops(), report.values);
  report.losses = report_values(rows, "losses");
}

Tensor Pass::report_values(int64_t n, const char* name) {
  const Tensor taken = report.values.slice(values_taken_, n).named(name);
  values_taken_ += n;
  return taken;
}

void layers_forward(Pass& pass, const Rows& rows, const Tensor& stream, LayerRun& run) {
  Arena& arena = pass.arena();
  const DType compute = pass.ops().compute_dtype();
  const int64_t d = pass.model.config().hidden_size;
  Tensor x = arena.tensor(compute, rows.count, d, "layer input");
  for (size_t i = 0; i < run.unique.size(); ++i) {
    const LayerTensors& weights = pass.model.tensors().layers[static_cast<size_t>(run.unique[i])];
    const Tensor from = i == 0 ? stream : Tensor{};
    if (!pass.options.keep) {
      layer_forward(pass.context, weights, rows, from, x, run.keys[i], x, nullptr);
      continue;
    }
    const Tensor y = arena.tensor(compute, rows.count, d, "layer output");
    const Arena::Mark mark = arena.mark();
    LayerActivations kept;
    layer_forward(pass.context, weights, rows, from, x, run.keys[i], y, &kept);
    if (pass.options.recompute) {
      arena.release(mark);
      kept = {};
      kept.x = x;
    }
    run.kept.push_back(kept);
    x = y;
  }
  run.out = x;
}

void layers_backward(Pass& pass, const Rows& rows, const LayerRun& run, const Tensor& d) {
  Arena& arena = pass.arena();
  for (size_t i = run.unique.size(); i-- > 0;) {
    const size_t unique = static_cast<size_t>(run.unique[i]);
    const LayerTensors& weights = pass.model.tensors().layers[unique];
    const Arena::Mark mark = arena.mark();
    LayerActivations kept = run.kept[i];
    if (pass.options.recompute) layer_forward(pass.context, weights, rows, {}, run.kept[i].x, run.keys[i], {}, &kept);
    layer_backward(pass.context, weights, pass.gradients->layers[unique], rows, kept, run.keys[i], d);
    arena.release(mark);
  }
}

void report_run(Pass& pass, const Rows& rows, int64_t layers, bool queries_only) {
  const ModelConfig& c = pass.model.config();
  auto* keys = static_cast<int64_t*>(pass.report_arena.allocate(sizeof(int64_t)));
  pass.ops().sum_integers(rows.visible, rows.count, keys);
  const double projected = queries_only ? c.query_size() : c.qkv_size();
  const double weights = static_cast<double>(c.hidden_size) * (projected + c.query_size() + 3.0 * c.intermediate_size);
  pass.report.flops += static_cast<double>(layers) * 2 * weights * rows.count;
  pass.report.seen.push_back({static_cast<double>(layers) * 4 * c.query_size(), keys});
}

SharedKeys allocate_shared_keys(Pass& pass, int64_t rows) {
  const ModelConfig& config = pass.model.config();
  SharedKeys shared;
  if (!pass.rules.sees_tokens_that_left()) return shared;
  for (int32_t layer = 0; layer < config.body_layers(); ++layer) {
    const auto buffer = [&](const char* name) {
      return pass.arena()
          .tensor(pass.ops().compute_dtype(), rows, config.key_value_size(), name)
          .heads(config.head_dim);
    };
    shared.k.push_back(buffer("shared keys"));
    shared.v.push_back(buffer("shared values"));
  }
  return shared;
}

void allocate_shared_gradients(Pass& pass, SharedKeys& shared) {
  for (const Tensor& k : shared.k) {
    const auto buffer = [&](const char* name) {
      const Tensor t = pass.arena().tensor(k.dtype, k.rows(), k.columns(), name).heads(pass.model.config().head_dim);
      zero(pass.ops(), t);
      return t;
    };
    shared.d_k.push_back(buffer("d_shared keys"));
    shared.d_v.push_back(buffer("d_shared values"));
  }
}

LayerRun body_run(Pass& pass, int32_t r, SharedKeys& shared) {
  const ModelConfig& config = pass.model.config();
  LayerRun run;
  for (int32_t layer = 0; layer < config.body_layers(); ++layer) {
    const size_t i = static_cast<size_t>(layer);
    run.unique.push_back(config.unique_layer(config.layers_before() + layer));
    LayerKeys keys;
    if (pass.rules.sees_tokens_that_left()) {
      if (r > 1 && pass.rules.sees_several_lists() && pass.options.keep) {
        const auto version = [&](Tensor& t) {
          const Tensor fresh = pass.arena().tensor(t.dtype, t.rows(), t.columns(), t.name).heads(config.head_dim);
          pass.ops().copy(fresh.data, t.data, static_cast<size_t>(t.count()) * dtype_size(t.dtype));
          t = fresh;
        };
        version(shared.k[i]);
        version(shared.v[i]);
      }
      keys.source = pass.rules.queries_only(r) ? KeySource::given : KeySource::cache;
      keys.k = shared.k[i];
      keys.v = shared.v[i];
    }
    run.keys.push_back(keys);
  }
  return run;
}

}  // namespace mor
