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

  /// Makes room for logits of `rows` rows, of which the first are those of `sequences`.
  void begin(Arena& arena, int64_t rows, const std::vector<Sequence*>& sequences);
  /// Puts the logits, from row source[i] of x [M, d], into the device's queue.
  void launch(const Tensor& x, const int32_t* source);
  /// Then a token for each: fills token, logprob and top_logprob of `outcome`; -1 where no logit is finite. The latter
  /// two stay empty where no sequence asks for them.
  void collect(StageOutcome& outcome);

 private:
  const Model& model_;
  // Of the stage begun last.
  Tensor normed_, logits_;  ///< [rows, d], [rows, V]
  std::vector<SamplingParams> params_;
  bool logprobs_ = false, top_logprobs_ = false;
};

}  // namespace mor
