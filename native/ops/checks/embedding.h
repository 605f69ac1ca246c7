// embedding: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

/// Tokens lie in device memory: that each is below V is the caller's promise.
inline void check_embedding_forward(const Tensor& weight, const Tensor& out) {
  check_shape("embedding_forward", weight, weight.rows(), out.columns());
  check_shape("embedding_forward", out, out.rows(), weight.columns());
}

inline void check_embedding_backward(const Tensor& d_out, const Tensor& d_weight) {
  check_shape("embedding_backward", d_out, d_out.rows(), d_weight.columns());
  check_shape("embedding_backward", d_weight, d_weight.rows(), d_out.columns());
}

}  // namespace mor
