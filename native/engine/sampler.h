// Sampler: final norm, head and draw: from rows of the residual stream to tokens.
#pragma once

#include <vector>

#include "engine/scheduler_plan.h"
#include "model/model.h"

namespace mor {

class Sampler {
 public:
  explicit Sampler(const Model& model) : model_(model) {}

  /// Allocates logits for rows of which the first ones are those of StagePlan::last.
  /// whole: whether one launch computes all of them. If not, they may be computed in pieces.
  void begin(Arena& arena, int64_t rows, bool whole, const StagePlan& plan);
  /// Puts the computation of the first piece of logits, of row source[i] of x [M, d] each, into the device's queue.
  void launch(const Tensor& x, const int32_t* source);
  /// Fills token (-1 where no logit is finite), logprob and top_logprob of `outcome`, and computes the other pieces for
  /// that. x and source are those of `launch`. logprob and top_logprob stay empty if no sequence asks for them.
  void collect(const Tensor& x, const int32_t* source, StageOutcome& outcome);

 private:
  void sample(int64_t first, int64_t count, StageOutcome& outcome);

  const Model& model_;
  // For the stage that was begun last.
  Tensor normed_, logits_;              ///< [rows of a piece, d], [rows of a piece, V]
  std::vector<SamplingParams> params_;  ///< [StagePlan::last]
  bool logprobs_ = false, top_logprobs_ = false;
};

}  // namespace mor
