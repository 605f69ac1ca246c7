// rows: specification of gather_rows, add_rows, scatter_gated and cast. Must not be fast.
#pragma once

#include "ops/ref/view.h"

namespace mor::ref {

/// Between the dtypes a reference run can hold: T itself, and the two storage types of checkpoints.
template <class T>
void cast(const Tensor& from, const Tensor& to) {
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

template <class T>
void gather_rows(const Tensor& x, const int32_t* source, const Tensor& y) {
  const View<T> x_(x), y_(y);
  for (int64_t i = 0; i < y.rows(); ++i)
    for (int64_t j = 0; j < y.columns(); ++j) y_(i, j) = x_(row(source, i), j);
}

template <class T>
void add_rows(const Tensor& x, const int32_t* source, const Tensor& y) {
  const View<T> x_(x), y_(y);
  for (int64_t i = 0; i < x.rows(); ++i)
    for (int64_t j = 0; j < x.columns(); ++j) y_(row(source, i), j) += x_(i, j);
}

/// As many rows as `gate` has elements.
template <class T>
void scatter_gated_forward(const Tensor& x, const int32_t* from, const Tensor& gate, const int32_t* to,
                           const Tensor& stream) {
  const View<T> x_(x), g(gate), stream_(stream);
  for (int64_t i = 0; i < gate.count(); ++i)
    for (int64_t j = 0; j < x.columns(); ++j) stream_(to[i], j) += g.data[i] * x_(row(from, i), j);
}

template <class T>
void scatter_gated_backward(const Tensor& d_stream, const int32_t* to, const Tensor& x, const int32_t* from,
                            const Tensor& gate, const Tensor& d_x, const Tensor& d_gate) {
  const View<T> dstream(d_stream), x_(x), g(gate), dx(d_x), dg(d_gate);
  for (int64_t i = 0; i < gate.count(); ++i) {
    T dot = 0;
    for (int64_t j = 0; j < x.columns(); ++j) {
      dot += dstream(to[i], j) * x_(row(from, i), j);
      dx(row(from, i), j) = g.data[i] * dstream(to[i], j);
    }
    dg.data[i] = dot;
  }
}

}  // namespace mor::ref
