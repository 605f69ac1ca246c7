// Trainer: AdamW steps on a model: gradients, optimiser state, accumulation, statistics.
#pragma once

#include <exception>
#include <memory>
#include <vector>

#include "distributed/timed_communicator.h"
#include "train/optimizer.h"
#include "train/step_result.h"
#include "train/token_rows.h"

namespace mor {

class Trainer {
 public:
  /// The model must outlive the trainer. Masters start from the model's weights. Throws INVALID_ARGUMENT for options of
  /// a parameter that the model does not train, a depth that it does not have, or a teacher of another vocabulary or
  /// dtype, and OUT_OF_MEMORY, naming the bytes that masters, gradients and optimiser state take, if the device has
  /// fewer. With a communicator, all ranks make theirs together, and throw INVALID_ARGUMENT if they differ.
  Trainer(Model& model, const TrainerOptions& options);

  /// One optimiser step. The loss is the mean over all targets that count; the router's terms of the micro-batches are
  /// weighed by their tokens. With a communicator, each rank gives rows of its own, the micro-batches of all ranks make
  /// one step, and every rank gets the same result (but its own seconds and memory). What is thrown on one rank is
  /// thrown on all, as Ranks::gather says, and no rank has done the step; except COMMUNICATION_FAILED, after which
  /// `state` may throw, too. Before every weight_hash_interval-th step, the first one included, compare_ranks is
  /// called. Throws NON_FINITE if a loss or gradient is not finite, and leaves weights and state as they were. Throws
  /// OUT_OF_MEMORY, before it computes anything, if the device has no room for the batch.
  /// Unless the passes wait for counts (waits_for_counts), a device that records (Ops::replay) repeats the recorded
  /// work from the third step of one shape on: everything between zeroing the gradients and the new weights.
  StepResult step(const TokenRows& rows);
  /// Of micro-batches of one shape.
  StepResult step(const int32_t* tokens, int32_t micro_batches, int32_t sequences, int32_t length) {
    return step({tokens, nullptr, std::vector<BatchShape>(static_cast<size_t>(micro_batches), {sequences, length})});
  }
  /// Throws the error, on all ranks: it is this rank's part in the step or the save that the others begin, and that it
  /// refuses because of its arguments. Without this they would wait for it.
  [[noreturn]] void fail(RankCall call, const Error& error) const;
  /// Losses without a step, at full depth; fields that belong to the optimiser stay 0. With top-k routing, recursions
  /// have the capacities of the next step. Other ranks take no part.
  StepResult evaluate(const TokenRows& rows, Routing routing);
  StepResult evaluate(const int32_t* tokens, int32_t sequences, int32_t length, Routing routing) {
    return evaluate({tokens, nullptr, {{sequences, length}}}, routing);
  }

  /// Optimizer::state: everything that a resumed run needs besides the model's weights and steps_done(). Throws
  /// COMMUNICATION_FAILED after a step that some ranks may have done and others not (Optimizer::check_whole).
  const std::vector<NamedTensor>& state() const {
    optimizer_->check_whole();
    return optimizer_->state();
  }
  /// Optimizer::whole_state, the same on every rank.
  std::vector<Optimizer::WholeTensor> whole_state() const {
    return Optimizer::whole_state(model_, optimizer_->parameters());
  }
  int64_t steps_done() const { return steps_done_; }
  void set_steps_done(int64_t steps) { steps_done_ = steps; }

  const Model& model() const { return model_; }
  const Ranks& ranks() const { return ranks_; }
  /// To be called by all ranks, as a part of the call. Throws COMMUNICATION_FAILED on every one, naming those that
  /// differ from most, unless all have the same weights, balancing bias and running thresholds. Does nothing if
  /// `weight_hash_interval` is 0.
  void compare_ranks(RankCall call) const;
  MemoryUse memory() const;

 private:
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
  /// All forward and backward passes of one step. totals: of all ranks.
  StepReport passes(const Workspace& workspace, const std::vector<Batch>& batches, PassOptions options,
                    const Totals& totals) const;
  Workspace workspace() { return {model_.ops(), activations_, readback_.arena()}; }
  /// Passes and optimiser of a step, whose memory is reserved. Fills report_ and returns the gradient norm.
  double run_alone(const TokenRows& rows, std::vector<Batch>& batches, const PassOptions& options,
                   const Totals& totals);
  class LoadsOfRanks;
  /// Likewise of one of several ranks. failure: what the passes threw, though not COMMUNICATION_FAILED, which is
  /// thrown; the norm is then not finite on any rank.
  double run_together(const TokenRows& rows, std::vector<Batch>& batches, PassOptions options, const Totals& totals,
                      LoadsOfRanks& loads, std::exception_ptr& failure);
  /// Throws NON_FINITE.
  [[noreturn]] void refuse(const StepResult& result);

  Model& model_;
  const std::unique_ptr<TimedCommunicator> timed_;  ///< null: it trains alone
  const TrainerOptions options_;                    ///< with timed_ as the communicator
  const Ranks ranks_;
  std::unique_ptr<Optimizer> optimizer_;
  Arena inputs_, activations_;
  Readback readback_;
  size_t planned_activations_ = 0;  ///< those of a batch that did not fit
  RecordingKey reserved_for_;       ///< key of the work that the arenas are reserved for
  int64_t steps_done_ = 0;
  int64_t steps_taken_ = 0;  ///< by this trainer
  StepReport report_;        ///< of the last step that ran or was recorded; replayed work writes its numbers there, too
  std::unique_ptr<Recording> recording_;  ///< the last member, to be destroyed before the memory that it works on
};

}  // namespace mor
