// sample: the parameters it accepts, for every device.
#pragma once

#include <cmath>

#include "ops/checks/shapes.h"
#include "ops/ops.h"

namespace mor {

inline void check_edits(const SamplingParams& params, int64_t vocabulary, int64_t row) {
  int64_t least = 0;
  for (int32_t j = 0; j < params.edit_count; ++j) {
    const LogitEdit& edit = params.edits[j];
    MOR_CHECK(edit.token >= least && edit.token < vocabulary, INVALID_ARGUMENT, "sample: edit ", j, " of row ", row,
              " is of token ", edit.token, ", but it must be from ", least, " (above the edit before) to ",
              vocabulary - 1);
    MOR_CHECK(edit.repetition > 0, INVALID_ARGUMENT, "sample: repetition of edit ", j, " of row ", row, " is ",
              edit.repetition, ", but it must be above 0 (1: off)");
    least = int64_t{edit.token} + 1;
  }
}

inline void check_sample(const Tensor& logits, const SamplingParams* params) {
  MOR_CHECK(logits.columns() > 0, INVALID_ARGUMENT, "sample: ", logits.name, " has no columns, so no token to draw");
  for (int64_t i = 0; i < logits.rows(); ++i) {
    const SamplingParams& p = params[i];
    MOR_CHECK(p.temperature >= 0 && std::isfinite(p.temperature), INVALID_ARGUMENT, "sample: temperature of row ", i,
              " is ", p.temperature, ", but it must be a number >= 0 (0: greedy)");
    MOR_CHECK(p.top_k >= 0, INVALID_ARGUMENT, "sample: top_k of row ", i, " is ", p.top_k,
              ", but it must be >= 0 (0: off)");
    MOR_CHECK(p.top_p > 0 && p.top_p <= 1, INVALID_ARGUMENT, "sample: top_p of row ", i, " is ", p.top_p,
              ", but it must be above 0 and at most 1 (1: off)");
    MOR_CHECK(p.min_p >= 0 && p.min_p <= 1, INVALID_ARGUMENT, "sample: min_p of row ", i, " is ", p.min_p,
              ", but it must be from 0 (off) to 1");
    MOR_CHECK(p.top_logprobs >= 0 && p.top_logprobs <= kMostTopLogprobs, INVALID_ARGUMENT,
              "sample: top_logprobs of row ", i, " is ", p.top_logprobs, ", but it must be from 0 (none) to ",
              kMostTopLogprobs);
    check_edits(p, logits.columns(), i);
    MOR_CHECK(p.given >= -1 && p.given < logits.columns(), INVALID_ARGUMENT, "sample: the given token of row ", i,
              " is ", p.given, ", but it must be from -1 (none) to ", logits.columns() - 1);
  }
}

inline void check_finite_logits(bool finite, int64_t row) {
  MOR_CHECK(finite, NON_FINITE, "sample: the logits of row ", row,
            " are not finite; the model's weights or activations have overflowed or are NaN");
}

}  // namespace mor
