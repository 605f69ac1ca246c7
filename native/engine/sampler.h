// Sampler: from rows of the residual stream to tokens: final norm, head, draw. Must not know of the KV cache or of
// recursions.
#pragma once

#include <vector>

#include "engine/scheduler_plan.h"
#include "model/model.h"

namespace mor {

class Sampler {
 public:
  explicit Sampler(const Model& model) : model_(model) {}

  /// Puts the logits for each of `sequences`, from row source[i] of x [M, d], into the device's queue.
  void launch(Arena& arena, const Tensor& x, const int32_t* source, const std::vector<Sequence*>& sequences);
  /// Then a token for each: fills token, logprob and top_logprob of `outcome`; -1 where no logit is finite. The latter
  /// two stay empty where no sequence asks for them.
  void collect(StageOutcome& outcome);

 private:
  const Model& model_;
  // Of the launch.
  Tensor logits_;  ///< [sequences, V]
  std::vector<SamplingParams> params_;
  bool logprobs_ = false, top_logprobs_ = false;
};

}  // namespace mor
