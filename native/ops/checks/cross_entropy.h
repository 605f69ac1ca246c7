// cross_entropy: the shapes and targets it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

inline void check_cross_entropy_forward(const Tensor& x, const Tensor& weight, const Tensor& losses) {
  const char* op = "cross_entropy";
  MOR_CHECK(weight.rows() > 0, INVALID_ARGUMENT, op, ": ", weight.name, " has no rows, so there is no vocabulary");
  check_shape(op, weight, weight.rows(), x.columns());
  check_vector(op, losses, x.rows());
}

inline void check_cross_entropy_backward(const Tensor& x, const Tensor& weight, const Tensor& losses, const Tensor& d_x,
                                         const Tensor& d_weight) {
  const char* op = "cross_entropy_backward";
  check_cross_entropy_forward(x, weight, losses);
  check_shape(op, d_x, x.rows(), x.columns());
  if (d_weight) check_shape(op, d_weight, weight.rows(), x.columns());
}

/// For devices whose memory the host can read.
inline void check_targets(const int32_t* target, int64_t rows, int64_t vocabulary) {
  for (int64_t i = 0; i < rows; ++i)
    MOR_CHECK(target[i] >= -1 && target[i] < vocabulary, TOKEN_OUT_OF_RANGE, "cross_entropy: target ", target[i],
              " of row ", i, " is outside the vocabulary of ", vocabulary, " (-1 means: ignore this row)");
}

}  // namespace mor
