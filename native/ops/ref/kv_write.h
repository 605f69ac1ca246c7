// kv_write: specification.
#pragma once

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

template <class T>
void RefOps<T>::kv_write(const Tensor& x, const int32_t* slot, const Tensor& cache) {
  const View<T> x_(x), cache_(cache);
  for (int64_t i = 0; i < x.rows(); ++i)
    for (int64_t j = 0; j < x.columns(); ++j) cache_(row(slot, i), j) = x_(i, j);
}

template <class T>
void RefOps<T>::kv_write_backward(const Tensor& d_cache, const int32_t* slot, const Tensor& d_x) {
  const View<T> dcache(d_cache), dx(d_x);
  for (int64_t i = 0; i < d_x.rows(); ++i)
    for (int64_t j = 0; j < d_x.columns(); ++j) {
      dx(i, j) = dcache(row(slot, i), j);
      dcache(row(slot, i), j) = T(0);
    }
}

}  // namespace mor::ref
