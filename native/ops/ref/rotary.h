// rotary: specification.
#pragma once

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// Each pair (a, b) = (x_j, x_{j+hd/2}) becomes (a cos - b sin, b cos + a sin), the sine negated for direction -1.
template <class T>
void RefOps<T>::rotary(const Tensor& x, const int32_t* position, const Tensor& table, int direction) {
  const View<T> x_(x), angles(table);
  const int64_t head_dim = table.columns(), half = head_dim / 2;
  for (int64_t i = 0; i < x.rows(); ++i)
    for (int64_t head = 0; head < x.columns(); head += head_dim)
      for (int64_t j = 0; j < half; ++j) {
        const T cosine = angles(position[i], j), sine = angles(position[i], half + j) * T(direction);
        T &first = x_(i, head + j), &second = x_(i, head + half + j);
        const T a = first, b = second;
        first = a * cosine - b * sine;
        second = b * cosine + a * sine;
      }
}

}  // namespace mor::ref
