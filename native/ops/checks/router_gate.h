// router_gate: the shapes and activations it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"
#include "ops/ops.h"

namespace mor {

inline void check_router_gate(const Tensor& scores, const int32_t* index, Activation activation, const Tensor& gate) {
  const char* op = "router_gate";
  MOR_CHECK(activation != Activation::softmax, INVALID_ARGUMENT, op,
            ": softmax needs several scores a row; use sigmoid or tanh");
  check_vector(op, scores, index == nullptr ? gate.count() : scores.count());
  check_vector(op, gate, gate.count());
}

inline void check_router_gate_backward(const Tensor& d_gate, const Tensor& scores, const int32_t* index,
                                       Activation activation, const Tensor& d_scores) {
  check_router_gate(scores, index, activation, d_gate);
  check_vector("router_gate_backward", d_scores, scores.count());
}

}  // namespace mor
