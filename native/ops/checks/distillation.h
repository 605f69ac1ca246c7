// distillation: the shapes and the parameters it accepts, for every device.
#pragma once

#include <cmath>

#include "ops/checks/shapes.h"
#include "ops/ops.h"

namespace mor {

inline void check_distillation(const Tensor& x, const Tensor& weight, const Tensor& teacher_x,
                               const Tensor& teacher_weight, const DistillationParams& params, const Tensor& losses,
                               const Tensor& divergences, const Tensor& d_x, const Tensor& d_weight) {
  const char* op = "distillation";
  MOR_CHECK(weight.rows() > 0, INVALID_ARGUMENT, op, ": ", weight.name, " has no rows, so there is no vocabulary");
  MOR_CHECK(std::isfinite(params.temperature) && params.temperature > 0, INVALID_ARGUMENT, op, ": the temperature is ",
            params.temperature, ", but it must be above 0");
  check_shape(op, weight, weight.rows(), x.columns());
  check_shape(op, teacher_x, x.rows(), teacher_x.columns());
  check_shape(op, teacher_weight, weight.rows(), teacher_x.columns());
  check_vector(op, losses, x.rows());
  check_vector(op, divergences, x.rows());
  check_shape(op, d_x, x.rows(), x.columns());
  if (d_weight) check_shape(op, d_weight, weight.rows(), x.columns());
}

}  // namespace mor
