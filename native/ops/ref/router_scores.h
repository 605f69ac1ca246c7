// router_scores: specification.
#pragma once

#include "ops/checks/router_scores.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

template <class T>
void RefOps<T>::router_scores_forward(const Tensor& x, const int32_t* source, const Tensor& weight,
                                      const Tensor& scores) {
  check_router_scores_forward(x, source, weight, scores);
  const View<T> x_(x), w(weight), s(scores);
  for (int64_t i = 0; i < scores.rows(); ++i)
    for (int64_t o = 0; o < weight.rows(); ++o) {
      T sum = 0;
      for (int64_t j = 0; j < x.columns(); ++j) sum += x_(row(source, i), j) * w(o, j);
      s(i, o) = sum;
    }
}

/// d_x[source[i]] += d_scores_i weight, d_weight += d_scores^T x[source].
template <class T>
void RefOps<T>::router_scores_backward(const Tensor& d_scores, const Tensor& x, const int32_t* source,
                                       const Tensor& weight, const Tensor& d_x, const Tensor& d_weight) {
  check_router_scores_backward(d_scores, x, source, weight, d_x, d_weight);
  const View<T> ds(d_scores), x_(x), w(weight), dx(d_x ? d_x : x), dw(d_weight);
  for (int64_t i = 0; i < d_scores.rows(); ++i)
    for (int64_t j = 0; j < x.columns(); ++j) {
      T sum = 0;
      for (int64_t o = 0; o < weight.rows(); ++o) {
        sum += ds(i, o) * w(o, j);
        dw(o, j) += ds(i, o) * x_(row(source, i), j);
      }
      if (d_x) dx(row(source, i), j) += sum;
    }
}

}  // namespace mor::ref
