// Optimizer: the gradients of what is trained, masters and moments, and the AdamW step that uses them. Of several
// ranks, each keeps masters and moments of its own pieces only, as ZeRO-1 (Rajbhandari et al. 2020, arXiv 1910.02054)
// does.
#pragma once

#include <string>
#include <vector>

#include "model/model.h"
#include "train/shards.h"
#include "train/trainer_options.h"

namespace mor {

/// Bytes by purpose. Activations include token ids and what is read back. After a batch that did not fit into memory,
/// they are the bytes that it would have taken, until another batch fits.
struct MemoryUse {
  size_t parameters = 0, gradients = 0, optimizer = 0, activations = 0;
  size_t total() const { return parameters + gradients + optimizer + activations; }
};

class Optimizer {
 public:
  /// The model and the options must outlive it. Masters start from the model's weights. Throws INVALID_ARGUMENT for
  /// options of a parameter that the model does not train, and OUT_OF_MEMORY, naming the bytes, if the device has
  /// fewer.
  Optimizer(Model& model, const TrainerOptions& options);

  const Parameters& parameters() const { return parameters_; }
  /// To be called before the work of a step is put into the device's queue, in which `update` will use it.
  void set_step(double learning_rate, int64_t step);
  void zero_gradients();
  /// Where the passes add them.
  const ModelTensors& gradients() const { return gradients_; }
  /// Of several ranks: the gradients of this unique layer, and of those called before it, are complete
  /// (PassOptions::layer_done). Begins to add up the buckets that are complete by now.
  void layer_done(int32_t layer);

  // ---- One of the two ends a step. If the norm that it finds is not finite, weights and state stay as they are.
  /// Of a rank that trains alone. norm [1] master: the global norm, NaN if one of `values` is not finite.
  void update(const std::vector<Tensor>& values, const Tensor& norm);
  /// With the gradients of all ranks, whose calls this one waits for, once all are complete. failed: the passes of this
  /// rank did not end, so the step must not be. Returns the global norm, the same on every rank.
  double update_together(const std::vector<Tensor>& values, bool failed);
  /// To be called when all that belongs to the step of update_together is done, which has changed weights and state.
  void end_step() { torn_ = false; }
  /// After update_together found no finite norm: whether this rank's own gradients and `values` are finite.
  bool own_are_finite(const std::vector<Tensor>& values);

  struct WholeTensor {
    std::string name;
    std::vector<int64_t> shape;
  };
  /// What the states of all ranks have together: "exp_avg.<parameter>", "exp_avg_sq.<parameter>", and
  /// "master.<parameter>" if the weights cannot be the masters. parameters: trained_parameters of the model.
  static std::vector<WholeTensor> whole_state(const Model& model, const Parameters& parameters);
  /// Everything that a resumed run needs besides the model's weights and the number of steps: masters and both moments.
  /// A rank that trains alone has the tensors of whole_state. Of several ranks each has parts of them, and every
  /// element is on exactly one rank.
  const std::vector<NamedTensor>& state() const { return state_; }
  /// Throws COMMUNICATION_FAILED if a step began to change weights and state and did not end: some ranks may have done
  /// it and others not.
  void check_whole() const;

  /// Without activations and the model's weights.
  MemoryUse memory() const { return memory_; }

 private:
  /// What this rank keeps of the segments, bucket by bucket; sets segment_begin_. Of several ranks, offsets count from
  /// the beginning of the bucket's piece, and those of weights from `gathered`.
  std::vector<ParameterSegment> divided_segments();
  void plan_memory();
  void allocate(Arena& arena, int64_t segments);
  void start_from_weights();
  void list_state();
  /// The prefixes of names in state(): "exp_avg.", "exp_avg_sq.", and "master." if the weights cannot be the masters.
  static std::vector<std::string> state_prefixes(const Model& model, const Parameters& parameters);
  /// Whether the ranks' states have the parameter with the prefix: all that are trained, and the masters of frozen ones
  /// whose weights are rounded, since a checkpoint keeps the values that a frozen tensor had in the one before it.
  static bool keeps(const std::string& prefix, const Parameter& parameter, const Model& model);
  /// Zeroes what frozen tensors have of the gradient's elements [begin, end).
  void zero_idle(int64_t begin, int64_t end);
  /// norm [1] master: of the gradient, NaN if one of `values` is not finite.
  void find_norm(const Tensor& gradient, const std::vector<Tensor>& values, const Tensor& norm);

  // ---- Of several ranks, in sharded_update.cpp.
  /// The order in which buckets become complete, which is that of every rank, whatever befalls its passes.
  void plan_buckets();
  /// Begins to add up the bucket's gradients of all ranks.
  void start(const Bucket& bucket);
  /// Where a bucket's new weights are gathered: in the memory of its gradients, which are used up by then.
  Tensor gathered(const Bucket& bucket) const;
  enum class Direction : uint8_t { from_model, to_model };
  /// Copies the weights of the flat elements [begin, end), which lie in the bucket, between the model and `gathered`.
  void copy_weights(const Bucket& bucket, int64_t begin, int64_t end, Direction direction);
  /// Of this rank's piece; begins to gather the new weights.
  void step_of_bucket(size_t bucket);

  Model& model_;
  const TrainerOptions& options_;
  Communicator* const communicator_;
  const Parameters parameters_;
  const Shards shards_;
  const bool separate_;  ///< whether masters have memory of their own
  MemoryUse memory_;
  Arena buffers_;
  Tensor master_, exp_avg_, exp_avg_sq_;  ///< [kept]; master: empty where several ranks have it in their weights
  Tensor gradient_, all_gradients_;       ///< of what is trained; and behind them those that nothing is trained by
  Tensor sums_;                           ///< several ranks: [kept] sums of their gradients
  Tensor norms_, norm_;                   ///< several ranks: [ranks] norms of the sums of each, [1] and of all sums
  AdamWStep* adamw_step_;                 ///< device memory
  ParameterSegment* segments_;            ///< device memory; those of the first bucket, then those of the next
  std::vector<size_t> segment_begin_;     ///< [buckets + 1]
  struct Completion {
    size_t bucket;
    int32_t layer;  ///< the bucket is complete when this unique layer is; -1: after the passes
  };
  std::vector<Completion> completions_;  ///< several ranks: of all buckets, the first ones first
  size_t started_ = 0;                   ///< how many of these have been in this step
  bool torn_ = false;                    ///< from the first new master to the end of the step
  ModelTensors gradients_;
  std::vector<NamedTensor> frozen_masters_;  ///< of rounded weights
  std::vector<NamedTensor> state_;
};

}  // namespace mor
