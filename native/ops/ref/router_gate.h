// router_gate: specification.
#pragma once

#include "ops/checks/router_gate.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

template <class T>
void RefOps<T>::router_gate_forward(const Tensor& scores, const int32_t* index, Activation activation, double alpha,
                                    const Tensor& gate) {
  check_router_gate(scores, index, activation, gate);
  const View<T> s_(scores), g(gate);
  for (int64_t i = 0; i < gate.count(); ++i) {
    const T s = s_(0, row(index, i));
    g(0, i) = T(alpha) * (activation == Activation::sigmoid ? sigmoid(s) : std::tanh(s));
  }
}

/// sigmoid' = a (1 - a), tanh' = 1 - a^2.
template <class T>
void RefOps<T>::router_gate_backward(const Tensor& d_gate, const Tensor& scores, const int32_t* index,
                                     Activation activation, double alpha, const Tensor& d_scores) {
  check_router_gate_backward(d_gate, scores, index, activation, d_scores);
  const View<T> s_(scores), dg(d_gate), ds(d_scores);
  for (int64_t i = 0; i < d_gate.count(); ++i) {
    const T s = s_(0, row(index, i));
    const T slope =
        activation == Activation::sigmoid ? sigmoid(s) * (T(1) - sigmoid(s)) : T(1) - std::tanh(s) * std::tanh(s);
    ds(0, row(index, i)) += dg(0, i) * T(alpha) * slope;
  }
}

}  // namespace mor::ref
