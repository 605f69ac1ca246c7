// embedding: specification.
#pragma once

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

template <class T>
void RefOps<T>::embedding_forward(const int32_t* tokens, const Tensor& weight, const Tensor& out) {
  const View<T> w(weight), out_(out);
  for (int64_t i = 0; i < out.rows(); ++i)
    for (int64_t j = 0; j < out.columns(); ++j) out_(i, j) = w(tokens[i], j);
}

template <class T>
void RefOps<T>::embedding_backward(const int32_t* tokens, const Tensor& d_out, const Tensor& d_weight) {
  const View<T> dout(d_out), dw(d_weight);
  for (int64_t i = 0; i < d_out.rows(); ++i)
    for (int64_t j = 0; j < d_out.columns(); ++j) dw(tokens[i], j) += dout(i, j);
}

}  // namespace mor::ref
