// What one pass over a batch carries: options in, statistics out, and the block run once at one recursion.
// Must not know of routers' policies or of the head.
#pragma once

#include "model/active_rows.h"
#include "model/model.h"
#include "model/report.h"
#include "model/router.h"

namespace mor {

enum class Routing : uint8_t {
  topk,       ///< expert choice as in training: looks at the whole sequence
  threshold,  ///< causal, as in generation (docs/model.md section 3)
};

struct PassOptions {
  Routing routing = Routing::topk;
  double router_threshold = 0.5;  ///< on sigmoid(score), for tanh gates too: 0.5 is score 0
  int32_t max_recursions = 0;     ///< 0: all
  int64_t step = INT64_MAX;       ///< optimiser steps done, for the capacity warm-up
  bool keep = false;              ///< keep activations for a backward
  bool recompute = false;         ///< keep only each layer's input, and run the layer again in its backward
  double loss_scale = 1;          ///< share of this micro-batch in the optimiser step, on every auxiliary term
};

/// Where a pass works: the device of the model, or one that only counts (ops/counting_ops.h), and memory of it.
struct Workspace {
  Ops& ops;
  Arena& activations;
  Arena& report;  ///< of a Readback, for what the host will want to know
};

/// Everything that the functions of one pass share.
struct Pass {
  const Model& model;
  const RoutingRules rules;
  LayerContext context;
  Arena& report_arena;
  const ModelTensors* gradients;  ///< master views; null without backward
  PassOptions options;
  PassReport report;
  /// rows: how many rows' losses the report is to hold.
  Pass(const Model& model, const Workspace& workspace, const ModelTensors* gradients, const PassOptions& options,
       int64_t rows);
  Ops& ops() const { return context.ops; }
  Arena& arena() const { return context.arena; }
  /// The next n of report.values, zero until somebody adds to them.
  Tensor report_values(int64_t n, const char* name);
  int32_t recursions() const { return rules.passes(options.max_recursions); }

 private:
  int64_t values_taken_ = 0;
};

/// A run of layers over the same rows.
struct LayerRun {
  std::vector<int32_t> unique;         ///< unique layer of each
  std::vector<LayerKeys> keys;         ///< of each
  std::vector<LayerActivations> kept;  ///< of each, where the pass keeps
  Tensor out;                          ///< [R, d]
};

/// Runs the layers one after another over `rows`, reading stream[rows.source[i]]; fills kept and out.
void layers_forward(Pass& pass, const Rows& rows, const Tensor& stream, LayerRun& run);
/// d [R, d]: gradient of out, becomes the gradient of the gathered input.
void layers_backward(Pass& pass, const Rows& rows, const LayerRun& run, const Tensor& d);

/// Adds to the report the forward FLOPs of `layers` layers over rows that each see rows.visible[i] keys.
void report_run(Pass& pass, const Rows& rows, int64_t layers, bool queries_only);

/// The body's key buffers under the shared and hybrid policies: one per block layer, filled by recursion 1.
struct SharedKeys {
  std::vector<Tensor> k, v, d_k, d_v;
};
SharedKeys allocate_shared_keys(Pass& pass, int64_t rows);
/// Zeroed gradients of the shared keys, for a body's backward.
void allocate_shared_gradients(Pass& pass, SharedKeys& shared);

/// Unique layers and key sources of the block at recursion r = 1..N. Under hybrid a keeping pass gives every recursion
/// its own version of the cache, since its backward needs what was visible then.
LayerRun body_run(Pass& pass, int32_t r, SharedKeys& shared);

}  // namespace mor
