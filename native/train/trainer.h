// Trainer: AdamW steps on a model: gradients, optimiser state, accumulation, statistics.
#pragma once

#include <string>
#include <vector>

#include "model/model_passes.h"
#include "train/trainer_options.h"

namespace mor {

/// Rows of one length, which run together.
struct BatchShape {
  int32_t sequences = 0, length = 0;
};
/// Token rows in host memory: those of the first micro-batch, then those of the next. A row has length + 1 ids, of
/// which the last `length` are targets.
struct TokenRows {
  const int32_t* tokens = nullptr;
  const uint8_t* counts = nullptr;  ///< for each id, whether it counts as a target; null: all of them do
  std::vector<BatchShape> micro_batches;
};

struct StepResult {
  double loss = 0, lm_loss = 0, distillation_loss = 0, auxiliary_loss = 0, z_loss = 0, balancing_loss = 0;
  double gradient_norm = 0, learning_rate = 0, seconds = 0;
  int64_t tokens = 0;                    ///< that the model ran over
  int64_t targets = 0;                   ///< that the loss is the mean of
  int64_t step = 0;                      ///< how many have been done, this one included
  int32_t recursions = 0;                ///< most recursions of a token in this step
  double flops = 0;                      ///< executed, forward and backward (3 x forward), head included
  double vanilla_flops = 0;              ///< what the same depth without recursion skipping would execute
  std::vector<int64_t> depth_histogram;  ///< [N] tokens of depth r + 1 (RoutingRules::depth)
  std::vector<double> selected_shares;   ///< expert choice: [N] share of the tokens that ran recursion r + 1
  std::vector<double> thresholds;        ///< training by threshold: [N] those that this step selected by
  double routing_accuracy = -1, dead_token_ratio = -1, max_vio = -1, load_entropy = -1;  ///< -1: does not apply
  size_t memory_bytes = 0;
};

/// Bytes by purpose. Activations include token ids and what is read back. After a batch that did not fit into memory,
/// they are the bytes that it would have taken, until another batch fits.
struct MemoryUse {
  size_t parameters = 0, gradients = 0, optimizer = 0, activations = 0;
  size_t total() const { return parameters + gradients + optimizer + activations; }
};

class Trainer {
 public:
  /// The model must outlive the trainer. Masters start from the model's weights. Throws INVALID_ARGUMENT for options of
  /// a parameter that the model does not train, a depth that it does not have, or a teacher of another vocabulary or
  /// dtype, and OUT_OF_MEMORY, naming the bytes
  /// that masters, gradients and optimiser state take, if the device has fewer.
  Trainer(Model& model, const TrainerOptions& options);

  /// One optimiser step. The loss is the mean over all targets that count; the router's terms of the micro-batches are
  /// weighed by their tokens.
  /// Throws NON_FINITE if a loss or gradient is not finite, and leaves weights and state as they were. Throws
  /// OUT_OF_MEMORY, before it computes anything, if the device has no room for the batch.
  /// Unless the passes wait for counts (waits_for_counts), a device that records (Ops::replay) repeats the recorded
  /// work from the third step of one shape on: everything between zeroing the gradients and the new weights.
  StepResult step(const TokenRows& rows);
  /// Of micro-batches of one shape.
  StepResult step(const int32_t* tokens, int32_t micro_batches, int32_t sequences, int32_t length) {
    return step({tokens, nullptr, std::vector<BatchShape>(static_cast<size_t>(micro_batches), {sequences, length})});
  }
  /// Losses without a step, at full depth; fields that belong to the optimiser stay 0. With top-k routing, recursions
  /// have the capacities of the next step.
  StepResult evaluate(const TokenRows& rows, Routing routing);
  StepResult evaluate(const int32_t* tokens, int32_t sequences, int32_t length, Routing routing) {
    return evaluate({tokens, nullptr, {{sequences, length}}}, routing);
  }

  /// parameters: trained_parameters of the model. The prefixes of names in state(): "exp_avg.", "exp_avg_sq.", and
  /// "master." if the weights cannot be the masters.
  static std::vector<std::string> state_prefixes(const Model& model, const Parameters& parameters);
  /// Whether state() has the parameter with the prefix: all that are trained, and the masters of frozen ones whose
  /// weights are rounded, since a checkpoint keeps the values that a frozen tensor had in the one before it.
  static bool keeps(const std::string& prefix, const Parameter& parameter, const Model& model);
  /// Everything that a resumed run needs besides the model's weights and steps_done(): masters and both moments. For
  /// each prefix it has the parameters that it `keeps`, whose names follow the prefix.
  const std::vector<NamedTensor>& state() const { return state_; }
  int64_t steps_done() const { return steps_done_; }
  void set_steps_done(int64_t steps) { steps_done_ = steps; }

  const Model& model() const { return model_; }
  MemoryUse memory() const;

 private:
  Tensor flat(Arena& arena, const char* name) const;
  /// Of a training pass of the next step.
  PassOptions pass_options() const;
  /// The shapes, how many targets count, and how many rows each recursion selects.
  RecordingKey key_of(const std::vector<Batch>& batches, const PassOptions& options) const;
  /// Reserves memory for ids and for what `work` takes, unless the last call was for the same key.
  void reserve(const RecordingKey& key, const std::vector<Batch>& batches,
               const std::function<void(const Workspace& workspace)>& work);
  /// Fills the batches, whose shapes are those of the rows, in memory that `reserve` has taken.
  void upload(const TokenRows& rows, std::vector<Batch>& batches);
  /// What the host reads back after a step.
  struct StepReport {
    std::vector<PassReport> passes;
    Tensor norm;
    size_t bytes = 0;  ///< to read back
  };
  /// All forward and backward passes of one step.
  StepReport passes(const Workspace& workspace, const std::vector<Batch>& batches) const;
  Workspace workspace() { return {model_.ops(), activations_, readback_.arena()}; }

  Model& model_;
  const TrainerOptions options_;
  const Parameters parameters_;
  Arena buffers_, inputs_, activations_;
  Readback readback_;
  MemoryUse planned_;          ///< without the model's weights; activations: 0, or those of a batch that did not fit
  RecordingKey reserved_for_;  ///< key of the work that the arenas are reserved for
  Tensor master_, exp_avg_, exp_avg_sq_;
  Tensor gradient_, all_gradients_;  ///< of what is trained; and behind them those that nothing is trained by
  AdamWStep* adamw_step_;            ///< device memory
  ParameterSegment* segments_;       ///< device memory
  int32_t segment_count_ = 0;
  ModelTensors gradients_;
  std::vector<NamedTensor> frozen_masters_;  ///< of rounded weights
  std::vector<Tensor> idle_gradients_;       ///< of frozen tensors among the trained ones
  std::vector<NamedTensor> state_;
  int64_t steps_done_ = 0;
  StepReport report_;  ///< of the last step that ran or was recorded; replayed work writes its numbers there, too
  std::unique_ptr<Recording> recording_;  ///< the last member, to be destroyed before the memory that it works on
};

/// Throws TOKEN_OUT_OF_RANGE or CONTEXT_OVERFLOW naming the row, the place and both values.
void check_tokens(const ModelConfig& config, const int32_t* tokens, int64_t rows, int64_t row_length,
                  int64_t context_length);

}  // namespace mor
