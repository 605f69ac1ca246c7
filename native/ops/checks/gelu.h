// gelu: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

inline void check_gelu_forward(const Tensor& x, const Tensor& y) {
  check_shape("gelu_forward", x, y.rows(), y.columns());
  check_shape("gelu_forward", y, x.rows(), x.columns());
}

inline void check_gelu_backward(const Tensor& d_y, const Tensor& x, const Tensor& d_x) {
  check_shape("gelu_backward", d_y, x.rows(), x.columns());
  check_shape("gelu_backward", x, d_y.rows(), d_y.columns());
  check_shape("gelu_backward", d_x, x.rows(), x.columns());
}

}  // namespace mor
