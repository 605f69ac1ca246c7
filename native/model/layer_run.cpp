// Layers that run one after another over the same rows.
#include "model/layer_run.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "model/hidden_states.h"

namespace mor {

namespace {

/// known: how many unique layers have run before. They are numbered in the order in which they run first.
Layers effective_layers(const ModelConfig& config, int32_t first, int32_t count, int32_t known) {
  Layers layers;
  for (int32_t l = first; l < first + count; ++l) {
    layers.unique.push_back(config.unique_layer(l));
    layers.first.push_back(layers.unique.back() >= known);
    known = std::max(known, layers.unique.back() + 1);
  }
  layers.keys.resize(layers.unique.size());
  return layers;
}

}  // namespace

Layers layers_before_block(const ModelConfig& config) {
  return effective_layers(config, 0, config.layers_before(), 0);
}

Layers layers_of_block(const ModelConfig& config) {
  return effective_layers(config, config.layers_before(), config.body_layers(), config.layers_before());
}

Layers layers_after_block(const ModelConfig& config) {
  return effective_layers(config, config.num_hidden_layers - config.layers_after(), config.layers_after(),
                          config.layers_before() + config.body_layers());
}

void run_layers(const LayerContext& context, const ModelTensors& tensors, const Layers& layers, const Rows& rows,
                const Tensor& stream, const Tensor& x, const std::function<void(size_t)>& before_layer) {
  for (size_t i = 0; i < layers.unique.size(); ++i) {
    if (before_layer) before_layer(i);
    layer_forward(context, tensors.layers[static_cast<size_t>(layers.unique[i])], rows, i == 0 ? stream : Tensor{}, x,
                  layers.keys[i], x, nullptr);
  }
}

void layers_forward(Pass& pass, const Rows& rows, const Tensor& stream, LayerRun& run) {
  Arena& arena = pass.arena();
  const DType compute = pass.ops().compute_dtype();
  const int64_t d = pass.model.config().hidden_size;
  Tensor x = arena.tensor(compute, rows.count, d, "layer input");
  if (!pass.options.keep) {
    std::function<void(size_t)> record;
    if (pass.hidden_states != nullptr)
      record = [&](size_t i) {
        pass.hidden_states->record(i, i == 0 ? stream : x, i == 0 ? rows.source : nullptr, rows.count);
      };
    run_layers(pass.context, pass.model.tensors(), run.layers, rows, stream, x, record);
    run.out = x;
    return;
  }
  for (size_t i = 0; i < run.layers.unique.size(); ++i) {
    const LayerTensors& weights = pass.model.tensors().layers[static_cast<size_t>(run.layers.unique[i])];
    const Tensor y = arena.tensor(compute, rows.count, d, "layer output");
    std::optional<ArenaScope> scratch;
    if (pass.options.recompute) scratch.emplace(arena);
    LayerActivations kept;
    layer_forward(pass.context, weights, rows, i == 0 ? stream : Tensor{}, x, run.layers.keys[i], y, &kept);
    if (pass.options.recompute) {
      kept = {};
      kept.x = x;
    }
    run.kept.push_back(kept);
    x = y;
  }
  run.out = x;
}

void layers_backward(Pass& pass, const Rows& rows, const LayerRun& run, const Tensor& d) {
  for (size_t i = run.layers.unique.size(); i-- > 0;) {
    const size_t unique = static_cast<size_t>(run.layers.unique[i]);
    const LayerTensors& weights = pass.model.tensors().layers[unique];
    const LayerKeys& keys = run.layers.keys[i];
    const ArenaScope scope(pass.arena());
    LayerActivations kept = run.kept[i];
    if (pass.options.recompute) layer_forward(pass.context, weights, rows, {}, run.kept[i].x, keys, {}, &kept);
    layer_backward(pass.context, weights, pass.gradients->layers[unique], rows, kept, keys, d);
    if (pass.options.layer_done && run.layers.first[i]) pass.options.layer_done(run.layers.unique[i]);
  }
}

void report_layers(Pass& pass, const Rows& rows, int64_t layers, bool queries_only) {
  const ModelConfig& c = pass.model.config();
  int64_t* keys = pass.report_arena.array<int64_t>(1);
  pass.ops().sum_integers(rows.visible, rows.count, keys);
  const double projected = queries_only ? c.query_size() : c.qkv_size();
  const double weights = static_cast<double>(c.hidden_size) * (projected + c.query_size() + 3.0 * c.intermediate_size);
  pass.report.flops += static_cast<double>(layers) * 2 * weights * rows.count;
  pass.report.seen.push_back({static_cast<double>(layers) * 4 * c.query_size(), keys});
}

}  // namespace mor
