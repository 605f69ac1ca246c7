// One pass over a batch: its options, its memory, its report, and functions that run layers.
#pragma once

#include "model/active_rows.h"
#include "model/model.h"
#include "model/report.h"
#include "model/router.h"

namespace mor {

enum class Routing : uint8_t {
  topk,       ///< expert choice as in training, which looks at the whole sequence
  threshold,  ///< causal, as in generation (docs/model.md section 3)
};

struct PassOptions {
  Routing routing = Routing::topk;
  double router_threshold = 0.5;  ///< compared with sigmoid(score), also for tanh gates: 0.5 is score 0
  int32_t max_recursions = 0;     ///< 0: all
  int64_t step = INT64_MAX;       ///< optimiser steps done, for the capacity warm-up
  bool keep = false;              ///< keep activations for a backward
  bool recompute = false;         ///< keep only each layer's input, and run its forward again in the backward
  double loss_scale = 1;          ///< weight of this micro-batch in the optimiser step
};

/// The device of a pass, which is the model's or one that only counts (ops/counting_ops.h), and memory of that device.
struct Workspace {
  Ops& ops;
  Arena& activations;
  Arena& report;  ///< the arena of a Readback, for values that the host will read
};

/// What the functions of one pass share.
struct Pass {
  const Model& model;
  const RoutingRules rules;
  LayerContext context;
  Arena& report_arena;
  const ModelTensors* gradients;  ///< views of master dtype; null without backward
  PassOptions options;
  PassReport report;
  /// rows: the number of losses in the report.
  Pass(const Model& model, const Workspace& workspace, const ModelTensors* gradients, const PassOptions& options,
       int64_t rows);
  Ops& ops() const { return context.ops; }
  Arena& arena() const { return context.arena; }
  /// The next n elements of report.values, which are zero.
  Tensor report_values(int64_t n, const char* name);
  int32_t recursions() const { return rules.passes(options.max_recursions); }

 private:
  int64_t values_taken_ = 0;
};

/// Consecutive layers over the same rows.
struct LayerRun {
  std::vector<int32_t> unique;         ///< [layers] the unique layer of each
  std::vector<LayerKeys> keys;         ///< [layers]
  std::vector<LayerActivations> kept;  ///< [layers] if the pass keeps activations
  Tensor out;                          ///< [R, d]
};

/// Runs the layers over `rows`; row i of the input is stream[rows.source[i]]. Fills run.kept and run.out.
void layers_forward(Pass& pass, const Rows& rows, const Tensor& stream, LayerRun& run);
/// d [R, d] is the gradient of run.out, and becomes that of the gathered input.
void layers_backward(Pass& pass, const Rows& rows, const LayerRun& run, const Tensor& d);

/// Adds the forward FLOPs of `layers` layers over the rows to the report; row i sees rows.visible[i] keys.
void report_run(Pass& pass, const Rows& rows, int64_t layers, bool queries_only);

/// The keys and values that recursion 1 computes for later ones, for `shared` and `hybrid` caches: one of each per
/// layer of the block.
struct SharedKeys {
  std::vector<Tensor> k, v, d_k, d_v;
};
SharedKeys allocate_shared_keys(Pass& pass, int64_t rows);
/// Allocates zeroed gradients of the shared keys for the backward of the body.
void allocate_shared_gradients(Pass& pass, SharedKeys& shared);

/// The layers of the block and the sources of their keys at recursion r = 1..N. With a hybrid cache, in a pass that
/// keeps activations, every recursion has its own copy of the keys, since its backward needs those that were visible
/// then.
LayerRun body_run(Pass& pass, int32_t r, SharedKeys& shared);

}  // namespace mor
