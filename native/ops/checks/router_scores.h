// router_scores: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

inline void check_router_scores_forward(const Tensor& x, const int32_t* source, const Tensor& weight,
                                        const Tensor& scores) {
  const char* op = "router_scores";
  check_shape(op, scores, scores.rows(), weight.rows());
  check_shape(op, x, source == nullptr ? scores.rows() : x.rows(), x.columns());
  check_shape(op, weight, weight.rows(), x.columns());
}

inline void check_router_scores_backward(const Tensor& d_scores, const Tensor& x, const int32_t* source,
                                         const Tensor& weight, const Tensor& d_x, const Tensor& d_weight) {
  const char* op = "router_scores_backward";
  check_router_scores_forward(x, source, weight, d_scores);
  if (d_x) check_shape(op, d_x, x.rows(), x.columns());
  check_shape(op, d_weight, weight.rows(), x.columns());
}

}  // namespace mor
