// Pass: what the functions of one pass over a batch share: the model, the options, where they work, and the report.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "model/model.h"
#include "model/report.h"

namespace mor {

enum class Routing : uint8_t {
  topk,       ///< expert choice that looks at the whole sequence, as in training unless that selects by threshold
  threshold,  ///< causal, as in generation (docs/model.md section 3)
};

/// A model whose predictions another one learns (docs/model.md section 6).
struct Distillation {
  const Model* teacher = nullptr;  ///< of the same vocabulary, compute dtype and device; null: no distillation
  double temperature = 1;
  double weight = 0.5;  ///< of the divergence; that of the cross-entropy is 1 - weight
};

struct PassOptions {
  Routing routing = Routing::topk;
  double router_threshold = 0.5;                 ///< compared with sigmoid(score), also for tanh gates: 0.5 is score 0
  int32_t max_recursions = 0;                    ///< 0: all
  int64_t step = INT64_MAX;                      ///< optimiser steps done, for the capacity warm-up
  std::optional<int64_t> capacity_warmup_steps;  ///< in place of RouterConfig::capacity_warmup_steps
  bool keep = false;                             ///< keep activations for a backward
  bool recompute = false;     ///< keep only each layer's input, and run the layer again in its backward
  double loss_scale = 1;      ///< of the mean loss of the targets: the share of this micro-batch's targets in the step
  Distillation distillation;  ///< of a training pass
  double router_loss_scale = 1;  ///< of the router's terms: the share of this micro-batch's tokens in the step
  /// Token choice, called once in every pass: adds to the loads [N] of the batch those of the batches that other ranks
  /// run at the same time. Empty: there are no other ranks.
  std::function<void(std::vector<double>& load)> add_loads;
  /// Called in the backward once the gradients of a unique layer are complete, of the last layer first. Those of the
  /// final norm and of an output projection of its own are complete before; the others only after the pass.
  std::function<void(int32_t layer)> layer_done;
};

/// Where a pass works: the device of the model or a CountingOps, and memory of it.
struct Workspace {
  Ops& ops;
  Arena& activations;
  Arena& report;  ///< of a Readback, for the numbers that the host will read
  /// The model that the calling thread belongs to, whose Ops it may use and which says when to stop; null: that of the
  /// pass.
  const Model* host = nullptr;
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
