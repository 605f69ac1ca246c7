// distillation fused with both output projections: specification.
#pragma once

#include <vector>

#include "ops/checks/cross_entropy.h"
#include "ops/checks/distillation.h"
#include "ops/ref/cross_entropy.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// log softmax(logits / temperature).
template <class T>
std::vector<T> tempered_log_softmax(const std::vector<T>& logits, double temperature) {
  T most = logits[0], sum = 0;
  for (const T& logit : logits)
    if (real(logit) > real(most)) most = logit;
  std::vector<T> result;
  for (const T& logit : logits) {
    result.push_back((logit - most) / T(temperature));
    sum += std::exp(result.back());
  }
  for (T& value : result) value -= std::log(sum);
  return result;
}

/// With q = softmax(s / T) and p = softmax(t / T): KL = sum_j p_j (log p_j - log q_j), and the gradient of T^2 KL with
/// respect to s_j is T (q_j - p_j).
template <class T>
void RefOps<T>::distillation(const Tensor& x, const Tensor& weight, const Tensor& teacher_x,
                             const Tensor& teacher_weight, const int32_t* target, const DistillationParams& params,
                             const Tensor& losses, const Tensor& divergences, const Tensor& d_x,
                             const Tensor& d_weight) {
  check_distillation(x, weight, teacher_x, teacher_weight, params, losses, divergences, d_x, d_weight);
  check_targets(target, x.rows(), weight.rows());
  const View<T> x_(x), w(weight), loss(losses), divergence(divergences), dx(d_x), dw(d_weight);
  const T temperature(params.temperature);
  std::vector<T> logits, teacher_logits;
  for (int64_t i = 0; i < x.rows(); ++i) {
    loss(0, i) = 0;
    divergence(0, i) = 0;
    for (int64_t c = 0; c < x.columns(); ++c) dx(i, c) = 0;
    if (target[i] < 0) continue;
    const T lse = row_logsumexp<T>(x, weight, i, logits);
    row_logsumexp<T>(teacher_x, teacher_weight, i, teacher_logits);
    loss(0, i) = lse - logits[static_cast<size_t>(target[i])];
    const std::vector<T> log_q = tempered_log_softmax(logits, params.temperature),
                         log_p = tempered_log_softmax(teacher_logits, params.temperature);
    for (int64_t j = 0; j < weight.rows(); ++j) {
      const auto k = static_cast<size_t>(j);
      const T p = std::exp(log_p[k]), q = std::exp(log_q[k]);
      divergence(0, i) += temperature * temperature * p * (log_p[k] - log_q[k]);
      const T g = T(params.loss_scale) * (std::exp(logits[k] - lse) - (j == target[i] ? T(1) : T(0))) +
                  T(params.divergence_scale) * temperature * (q - p);
      for (int64_t c = 0; c < x.columns(); ++c) {
        dx(i, c) += g * w(j, c);
        if (d_weight) dw(j, c) += g * x_(i, c);
      }
    }
  }
}

}  // namespace mor::ref
