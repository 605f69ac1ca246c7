// rmsnorm: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

inline void check_rmsnorm_forward(const Tensor& x, const int32_t* source, const Tensor& weight, const Tensor& packed,
                                  const Tensor& y, const Tensor& rstd) {
  const char* op = "rmsnorm_forward";
  check_shape(op, x, source == nullptr ? y.rows() : x.rows(), y.columns());
  check_vector(op, weight, y.columns());
  if (packed) check_shape(op, packed, y.rows(), y.columns());
  if (rstd) check_vector(op, rstd, y.rows());
}

inline void check_rmsnorm_backward(const Tensor& d_y, const Tensor& packed, const Tensor& weight, const Tensor& rstd,
                                   const Tensor& d_packed, const Tensor& d_weight) {
  const char* op = "rmsnorm_backward";
  check_shape(op, packed, d_y.rows(), d_y.columns());
  check_shape(op, d_packed, d_y.rows(), d_y.columns());
  check_vector(op, weight, d_y.columns());
  check_vector(op, rstd, d_y.rows());
  check_vector(op, d_weight, d_y.columns());
}

}  // namespace mor
