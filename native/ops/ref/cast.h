// cast: specification.
#pragma once

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// Between the dtypes a reference run can hold: T itself, and the two storage types of checkpoints.
template <class T>
void RefOps<T>::cast(const Tensor& from, const Tensor& to) {
  for (int64_t i = 0; i < to.rows(); ++i)
    for (int64_t j = 0; j < to.columns(); ++j) {
      const int64_t f = i * from.row_stride + j, t = i * to.row_stride + j;
      T value;
      if (from.dtype == DType::float32)
        value = T(from.as<float>()[f]);
      else if (from.dtype == DType::bfloat16)
        value = T(static_cast<float>(from.as<bfloat16>()[f]));
      else
        value = from.as<T>()[f];
      if (to.dtype == DType::float32)
        to.as<float>()[t] = static_cast<float>(real(value));
      else if (to.dtype == DType::bfloat16)
        to.as<bfloat16>()[t] = bfloat16(static_cast<float>(real(value)));
      else
        to.as<T>()[t] = value;
    }
}

}  // namespace mor::ref
