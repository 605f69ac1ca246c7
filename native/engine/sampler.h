// Sampler: final norm, head and draw: from rows of the residual stream to tokens.
#pragma once

#include <vector>

#include "engine/scheduler_plan.h"
#include "model/model.h"

namespace mor {

class Sampler {
 public:
  explicit Sampler(const Model& model) : model_(model) {}

  /// Allocates logits of `rows` rows, of which the first ones belong to `sequences`.
  void begin(Arena& arena, int64_t rows, const std::vector<Sequence*>& sequences);
  /// Puts the computation of the logits, of row source[i] of x [M, d] each, into the device's queue.
  void launch(const Tensor& x, const int32_t* source);
  /// Draws a token for each sequence and fills token (-1 where no logit is finite), logprob and top_logprob of
  /// `outcome`. The latter two stay empty if no sequence asks for them.
  void collect(StageOutcome& outcome);

 private:
  const Model& model_;
  // For the stage that was begun last.
  Tensor normed_, logits_;  ///< [rows, d], [rows, V]
  std::vector<SamplingParams> params_;
  bool logprobs_ = false, top_logprobs_ = false;
};

}  // namespace mor
