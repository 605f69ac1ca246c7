// swiglu: specification.
#pragma once

#include <vector>

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// out = silu(gate) * up with silu(g) = g sigmoid(g).
template <class T>
void RefOps<T>::swiglu_forward(const Tensor& x, const Tensor& weight, const Tensor& gate_up, const Tensor& out) {
  const int64_t f = out.columns();
  std::vector<T> memory(gate_up ? 0 : static_cast<size_t>(x.rows() * 2 * f));
  const Tensor product = gate_up ? gate_up : make_tensor(memory.data(), dtype_of<T>, x.rows(), 2 * f, "gate_up");
  RefOps::linear_forward(x, weight, {}, product);
  const View<T> in(product), out_(out);
  for (int64_t i = 0; i < out.rows(); ++i)
    for (int64_t j = 0; j < f; ++j) out_(i, j) = in(i, j) * sigmoid(in(i, j)) * in(i, f + j);
}

/// With s = sigmoid(g): silu'(g) = s (1 + g (1 - s)), so d_gate = d_out up silu'(gate) and d_up = d_out silu(gate).
template <class T>
void RefOps<T>::swiglu_backward(const Tensor& d_out, const Tensor& gate_up, const Tensor& d_gate_up) {
  const View<T> dout(d_out), in(gate_up), din(d_gate_up);
  const int64_t f = d_out.columns();
  for (int64_t i = 0; i < d_out.rows(); ++i)
    for (int64_t j = 0; j < f; ++j) {
      const T gate = in(i, j), up = in(i, f + j), s = sigmoid(gate), d = dout(i, j);
      din(i, j) = d * up * s * (T(1) + gate * (T(1) - s));
      din(i, f + j) = d * gate * s;
    }
}

}  // namespace mor::ref
