// Pass: what the functions of one pass over a batch share: the model, the options, where they work, and the report.
#pragma once

#include "model/model.h"
#include "model/report.h"

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
  bool recompute = false;         ///< keep only each layer's input, and run the layer again in its backward
  double loss_scale = 1;          ///< factor of every loss: the share of this micro-batch in the optimiser step
};

/// Where a pass works: the device of the model or a CountingOps, and memory of it.
struct Workspace {
  Ops& ops;
  Arena& activations;
  Arena& report;  ///< of a Readback, for the numbers that the host will read
};

class HiddenStates;

struct Pass {
  const Model& model;
  const RoutingRules rules;
  LayerContext context;
  Arena& report_arena;
  const ModelTensors* gradients;  ///< views of master dtype; null without backward
  PassOptions options;
  PassReport report;
  HiddenStates* hidden_states = nullptr;  ///< null: not wanted; only without `keep`
  /// rows: the number of losses in the report.
  Pass(const Model& model, const Workspace& workspace, const ModelTensors* gradients, const PassOptions& options,
       int64_t rows);
  Ops& ops() const { return context.ops; }
  Arena& arena() const { return context.arena; }
  /// The next n of report.values, which are zero.
  Tensor report_values(int64_t n, const char* name);
  /// Passes of the block.
  int32_t recursions() const { return rules.passes(options.max_recursions); }

 private:
  int64_t values_taken_ = 0;
};

}  // namespace mor
