// rmsnorm: specification.
#pragma once

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

template <class T>
void RefOps<T>::rmsnorm_forward(const Tensor& x, const int32_t* source, const Tensor& weight, double epsilon,
                                const Tensor& packed, const Tensor& y, const Tensor& rstd) {
  const View<T> x_(x), w_(weight), y_(y);
  const int64_t d = y.columns();
  for (int64_t i = 0; i < y.rows(); ++i) {
    T mean_square = 0;
    for (int64_t j = 0; j < d; ++j) mean_square += x_(row(source, i), j) * x_(row(source, i), j) / T(d);
    const T r = T(1) / std::sqrt(mean_square + T(epsilon));
    for (int64_t j = 0; j < d; ++j) {
      if (packed) packed.as<T>()[i * packed.row_stride + j] = x_(row(source, i), j);
      y_(i, j) = x_(row(source, i), j) * r * w_(0, j);
    }
    if (rstd) rstd.as<T>()[i] = r;
  }
}

/// With n = x·rstd and g = d_y·weight: d_x = rstd (g - n mean(g n)), d_weight = sum over rows of d_y n.
template <class T>
void RefOps<T>::rmsnorm_backward(const Tensor& d_y, const Tensor& packed, const Tensor& weight, const Tensor& rstd,
                                 const Tensor& d_packed, const Tensor& d_weight) {
  const View<T> dy(d_y), x(packed), w(weight), r(rstd), dx(d_packed), dw(d_weight);
  const int64_t d = d_y.columns();
  for (int64_t i = 0; i < d_y.rows(); ++i) {
    T mean = 0;
    for (int64_t j = 0; j < d; ++j) mean += dy(i, j) * w(0, j) * x(i, j) * r(i) / T(d);
    for (int64_t j = 0; j < d; ++j) {
      dx(i, j) += r(i) * (dy(i, j) * w(0, j) - x(i, j) * r(i) * mean);
      dw(0, j) += dy(i, j) * x(i, j) * r(i);
    }
  }
}

}  // namespace mor::ref
