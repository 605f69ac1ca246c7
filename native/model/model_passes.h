// The whole model over one batch of sequences of equal length: losses and gradients, evaluation, logits.
#pragma once

#include "model/recursion.h"

namespace mor {

/// `sequences` rows of `length` tokens, one after another, in device memory.
struct Batch {
  int32_t sequences = 0, length = 0;
  const int32_t* tokens = nullptr;   ///< [sequences * length]
  const int32_t* targets = nullptr;  ///< [sequences * length], the next token of each, or -1; null if no loss is wanted
  int64_t target_count = -1;         ///< how many of them are not -1; -1: all
};

/// Forward and backward: gradients of options.loss_scale * mean cross-entropy + options.router_loss_scale * router's
/// terms accumulate into `gradients` (views of a flat master buffer). workspace.activations is reset first and holds
/// the activations afterwards; the result says where the numbers are in workspace.report. Waits for the device only if
/// waits_for_counts.
PassReport training_pass(const Model& model, const Workspace& workspace, const ModelTensors& gradients,
                         const Batch& batch, PassOptions options);

/// Forward only, for losses and statistics.
PassReport evaluation_pass(const Model& model, const Workspace& workspace, const Batch& batch, PassOptions options);

/// Whether a training pass waits for the device: under token choice, under expert choice that selects by threshold, and
/// for a teacher with a router, which works as in generation, the host reads how many rows a recursion has. A pass that
/// does not wait can be recorded (Ops::replay).
bool waits_for_counts(const ModelConfig& config, const Distillation& distillation = {});

/// Bytes that the arenas of a workspace take at most while `work` runs on `device`. `work` runs on a CountingOps
/// instead. The numbers are upper bounds if the host reads from the device how many rows a recursion has, and else
/// exact.
struct PassMemory {
  size_t activations = 0, report = 0;
};
PassMemory count_memory(const Ops& device, const std::function<void(const Workspace& workspace)>& work);

/// What an inference pass gives, in host memory. "Rows" are those of the batch: row s * length + t is token t of
/// sequence s. A list without rows costs nothing, and its array may be null.
struct InferenceOutputs {
  uint8_t* depths = nullptr;         ///< [sequences * length] RoutingRules::depth of each token
  std::vector<int32_t> logits_rows;  ///< rows whose logits are wanted
  float* logits = nullptr;           ///< [logits_rows, vocab]
  std::vector<int32_t> target_rows;  ///< rows whose targets have a log-probability wanted
  std::vector<int32_t> targets;      ///< [target_rows] token ids
  float* logprobs = nullptr;         ///< [target_rows] log softmax(logits of the row)[target]
  std::vector<int32_t> layers;       ///< as HiddenStates::layers
  float* hidden_states = nullptr;    ///< [layers, sequences * length, hidden]
};

/// Forward only, for its outputs. Only those that are wanted are computed and copied to the host.
void inference_pass(const Model& model, Arena& arena, const Batch& batch, PassOptions options,
                    const InferenceOutputs& outputs);

}  // namespace mor
