// rows: specification of gather_rows, add_rows and scatter_gated.
#pragma once

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

template <class T>
void RefOps<T>::gather_rows(const Tensor& x, const int32_t* source, const Tensor& y) {
  const View<T> x_(x), y_(y);
  for (int64_t i = 0; i < y.rows(); ++i)
    for (int64_t j = 0; j < y.columns(); ++j) y_(i, j) = x_(row(source, i), j);
}

template <class T>
void RefOps<T>::add_rows(const Tensor& x, const int32_t* source, const Tensor& y) {
  const View<T> x_(x), y_(y);
  for (int64_t i = 0; i < x.rows(); ++i)
    for (int64_t j = 0; j < x.columns(); ++j) y_(row(source, i), j) += x_(i, j);
}

/// As many rows as `gate` has elements.
template <class T>
void RefOps<T>::scatter_gated_forward(const Tensor& x, const int32_t* from, const Tensor& gate, const int32_t* to,
                                      const Tensor& stream) {
  const View<T> x_(x), g(gate), stream_(stream);
  for (int64_t i = 0; i < gate.count(); ++i)
    for (int64_t j = 0; j < x.columns(); ++j) stream_(row(to, i), j) += g.data[i] * x_(row(from, i), j);
}

template <class T>
void RefOps<T>::scatter_gated_backward(const Tensor& d_stream, const int32_t* to, const Tensor& x, const int32_t* from,
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
