// linear: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

inline void check_linear_forward(const Tensor& x, const Tensor& weight, const Tensor& residual, const Tensor& y) {
  const char* op = "linear_forward";
  check_shape(op, x, y.rows(), x.columns());
  check_shape(op, weight, y.columns(), x.columns());
  check_shape(op, y, x.rows(), weight.rows());
  if (!residual) return;
  check_shape(op, residual, y.rows(), y.columns());
  MOR_CHECK(residual.data != y.data || (residual.dtype == y.dtype && residual.row_stride == y.row_stride),
            INVALID_ARGUMENT, op, ": ", residual.name, " lies where ", y.name,
            " lies, but as another view of it; pass the same view or other memory");
}

inline void check_linear_backward_input(const Tensor& d_y, const Tensor& weight, const Tensor& d_x) {
  const char* op = "linear_backward_input";
  check_shape(op, d_y, d_x.rows(), d_y.columns());
  check_shape(op, weight, d_y.columns(), d_x.columns());
  check_shape(op, d_x, d_y.rows(), weight.columns());
}

inline void check_linear_backward_weight(const Tensor& d_y, const Tensor& x, const Tensor& d_weight) {
  const char* op = "linear_backward_weight";
  check_shape(op, x, d_y.rows(), x.columns());
  check_shape(op, d_weight, d_y.columns(), x.columns());
}

}  // namespace mor
