// cross_entropy fused with the output projection: specification.
#pragma once

#include <vector>

#include "ops/checks/cross_entropy.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// logits[j] = <x_i, weight_j>; returns logsumexp(logits), shifted by the maximum.
template <class T>
T row_logsumexp(const Tensor& x, const Tensor& weight, int64_t i, std::vector<T>& logits) {
  const View<T> x_(x), w(weight);
  const int64_t d = x.columns(), vocabulary = weight.rows();
  logits.assign(static_cast<size_t>(vocabulary), T(0));
  T most = 0, sum = 0;
  for (int64_t j = 0; j < vocabulary; ++j) {
    T& logit = logits[static_cast<size_t>(j)];
    for (int64_t c = 0; c < d; ++c) logit += x_(i, c) * w(j, c);
    if (j == 0 || real(logit) > real(most)) most = logit;
  }
  for (const T& logit : logits) sum += std::exp(logit - most);
  return most + std::log(sum);
}

template <class T>
void RefOps<T>::cross_entropy_forward(const Tensor& x, const Tensor& weight, const int32_t* target,
                                      const Tensor& losses) {
  check_cross_entropy_forward(x, weight, losses);
  check_targets(target, x.rows(), weight.rows());
  const View<T> loss(losses);
  std::vector<T> logits;
  for (int64_t i = 0; i < x.rows(); ++i) {
    loss(0, i) = 0;
    if (target[i] < 0) continue;
    const T lse = row_logsumexp<T>(x, weight, i, logits);
    loss(0, i) = lse - logits[static_cast<size_t>(target[i])];
  }
}

/// With g_ij = scale * (softmax(logits_i)_j - [j = target_i]): d_x = g weight, d_weight = g^T x.
template <class T>
void RefOps<T>::cross_entropy_backward(const Tensor& x, const Tensor& weight, const int32_t* target, double scale,
                                       const Tensor& losses, const Tensor& d_x, const Tensor& d_weight) {
  check_cross_entropy_backward(x, weight, losses, d_x, d_weight);
  check_targets(target, x.rows(), weight.rows());
  const View<T> x_(x), w(weight), loss(losses), dx(d_x), dw(d_weight);
  const int64_t d = x.columns(), vocabulary = weight.rows();
  std::vector<T> logits;
  for (int64_t i = 0; i < x.rows(); ++i) {
    loss(0, i) = 0;
    for (int64_t c = 0; c < d; ++c) dx(i, c) = 0;
    if (target[i] < 0) continue;
    const T lse = row_logsumexp<T>(x, weight, i, logits);
    loss(0, i) = lse - logits[static_cast<size_t>(target[i])];
    for (int64_t j = 0; j < vocabulary; ++j) {
      const T g = T(scale) * (std::exp(logits[static_cast<size_t>(j)] - lse) - (j == target[i] ? T(1) : T(0)));
      for (int64_t c = 0; c < d; ++c) {
        dx(i, c) += g * w(j, c);
        if (d_weight) dw(j, c) += g * x_(i, c);
      }
    }
  }
}

}  // namespace mor::ref
