// linear: specification.
#pragma once

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// y = x weight^T (+ residual), which may be y itself.
template <class T>
void RefOps<T>::linear_forward(const Tensor& x, const Tensor& weight, const Tensor& residual, const Tensor& y) {
  const View<T> x_(x), w(weight), y_(y);
  for (int64_t i = 0; i < y.rows(); ++i)
    for (int64_t j = 0; j < y.columns(); ++j) {
      T dot = 0;
      for (int64_t l = 0; l < x.columns(); ++l) dot += x_(i, l) * w(j, l);
      y_(i, j) = residual ? View<T>(residual)(i, j) + dot : dot;
    }
}

/// d_x = d_y weight.
template <class T>
void RefOps<T>::linear_backward_input(const Tensor& d_y, const Tensor& weight, const Tensor& d_x) {
  const View<T> dy(d_y), w(weight), dx(d_x);
  for (int64_t i = 0; i < d_x.rows(); ++i)
    for (int64_t l = 0; l < d_x.columns(); ++l) {
      T dot = 0;
      for (int64_t j = 0; j < d_y.columns(); ++j) dot += dy(i, j) * w(j, l);
      dx(i, l) = dot;
    }
}

/// d_weight += d_y^T x.
template <class T>
void RefOps<T>::linear_backward_weight(const Tensor& d_y, const Tensor& x, const Tensor& d_weight) {
  const View<T> dy(d_y), x_(x), dw(d_weight);
  for (int64_t j = 0; j < d_weight.rows(); ++j)
    for (int64_t l = 0; l < d_weight.columns(); ++l) {
      T dot = 0;
      for (int64_t i = 0; i < d_y.rows(); ++i) dot += dy(i, j) * x_(i, l);
      dw(j, l) += dot;
    }
}

}  // namespace mor::ref
