// token_choice: the shapes and activations it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"
#include "ops/ops.h"

namespace mor {

inline void check_token_choice_forward(const Tensor& logits, const Tensor& bias, Activation activation,
                                       const Tensor& probabilities, const Tensor& gate, const Tensor& load,
                                       const Tensor& p_sum, const Tensor& z_sum) {
  const char* op = "token_choice_forward";
  MOR_CHECK(activation != Activation::tanh, INVALID_ARGUMENT, op,
            ": tanh gives no probabilities; use softmax or sigmoid");
  MOR_CHECK(logits.columns() >= 1, INVALID_ARGUMENT, op, ": ", logits.name, " has no columns, so no depth to choose");
  check_vector(op, bias, logits.columns());
  check_shape(op, probabilities, logits.rows(), logits.columns());
  check_vector(op, gate, logits.rows());
  check_vector(op, load, logits.columns());
  check_vector(op, p_sum, logits.columns());
  check_vector(op, z_sum, 1);
}

inline void check_token_choice_backward(const Tensor& d_gate, const Tensor& logits, const Tensor& probabilities,
                                        Activation activation, double alpha, const Tensor& p_scale,
                                        const Tensor& d_logits) {
  const char* op = "token_choice_backward";
  MOR_CHECK(activation != Activation::tanh, INVALID_ARGUMENT, op,
            ": tanh gives no probabilities; use softmax or sigmoid");
  MOR_CHECK(alpha != 0, INVALID_ARGUMENT, op, ": alpha is 0, so the probabilities say nothing");
  check_vector(op, d_gate, logits.rows());
  check_shape(op, probabilities, logits.rows(), logits.columns());
  check_vector(op, p_scale, logits.columns());
  check_shape(op, d_logits, logits.rows(), logits.columns());
}

}  // namespace mor
