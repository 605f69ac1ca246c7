// swiglu: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

inline void check_swiglu_forward(const Tensor& x, const Tensor& weight, const Tensor& gate_up, const Tensor& out) {
  const char* op = "swiglu_forward";
  check_shape(op, x, out.rows(), x.columns());
  check_shape(op, weight, 2 * out.columns(), x.columns());
  check_shape(op, out, x.rows(), out.columns());
  if (gate_up) check_shape(op, gate_up, x.rows(), 2 * out.columns());
}

inline void check_swiglu_backward(const Tensor& d_out, const Tensor& gate_up, const Tensor& d_gate_up) {
  check_shape("swiglu_backward", d_out, d_out.rows(), d_out.columns());
  check_shape("swiglu_backward", gate_up, d_out.rows(), 2 * d_out.columns());
  check_shape("swiglu_backward", d_gate_up, d_out.rows(), 2 * d_out.columns());
}

}  // namespace mor
