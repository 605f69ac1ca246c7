// token_choice: specification.
#pragma once

#include <vector>

#include "ops/checks/token_choice.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// softmax of row i of the logits; *lse gets its logsumexp.
template <class T>
std::vector<T> token_choice_softmax(const Tensor& logits, int64_t i, T* lse) {
  const View<T> l(logits);
  const int64_t n = logits.columns();
  T most = l(i, 0), sum = 0;
  for (int64_t j = 1; j < n; ++j)
    if (real(l(i, j)) > real(most)) most = l(i, j);
  for (int64_t j = 0; j < n; ++j) sum += std::exp(l(i, j) - most);
  *lse = most + std::log(sum);
  std::vector<T> softmax;
  for (int64_t j = 0; j < n; ++j) softmax.push_back(std::exp(l(i, j) - *lse));
  return softmax;
}

template <class T>
void RefOps<T>::token_choice_forward(const Tensor& logits, const Tensor& bias, Activation activation, double alpha,
                                     const Tensor& probabilities, int32_t* depth, const Tensor& gate,
                                     const Tensor& load, const Tensor& p_sum, const Tensor& z_sum) {
  check_token_choice_forward(logits, bias, activation, probabilities, gate, load, p_sum, z_sum);
  const View<T> l(logits), b(bias), p(probabilities), g(gate), count(load), ps(p_sum), z(z_sum);
  const int64_t n = logits.columns();
  for (int64_t i = 0; i < logits.rows(); ++i) {
    T lse;
    const std::vector<T> softmax = token_choice_softmax<T>(logits, i, &lse);
    int64_t best = 0;
    for (int64_t j = 0; j < n; ++j) {
      p(i, j) = T(alpha) * (activation == Activation::softmax ? softmax[static_cast<size_t>(j)] : sigmoid(l(i, j)));
      ps(0, j) += p(i, j);
      if (real(p(i, j) + b(0, j)) > real(p(i, best) + b(0, best))) best = j;
    }
    depth[i] = static_cast<int32_t>(best) + 1;
    g(0, i) = p(i, best);
    count(0, best) += T(1);
    z(0, 0) += lse * lse;
  }
}

/// With G_j = p_scale_j + [j = depth - 1] d_gate and a = p / alpha: d_logits_j = p_j (G_j - sum_k a_k G_k) for softmax,
/// p_j (1 - a_j) G_j for sigmoid; and of the z-loss z_scale * 2 lse softmax_j.
template <class T>
void RefOps<T>::token_choice_backward(const Tensor& d_gate, const Tensor& logits, const Tensor& probabilities,
                                      const int32_t* depth, Activation activation, double alpha, const Tensor& p_scale,
                                      double z_scale, const Tensor& d_logits) {
  check_token_choice_backward(d_gate, logits, probabilities, activation, alpha, p_scale, d_logits);
  const View<T> dg(d_gate), p(probabilities), ps(p_scale), dl(d_logits);
  const int64_t n = logits.columns();
  for (int64_t i = 0; i < logits.rows(); ++i) {
    T lse;
    const std::vector<T> softmax = token_choice_softmax<T>(logits, i, &lse);
    const auto g = [&](int64_t j) { return ps(0, j) + (j == depth[i] - 1 ? dg(0, i) : T(0)); };
    T mean = 0;
    for (int64_t j = 0; j < n; ++j) mean += p(i, j) / T(alpha) * g(j);
    for (int64_t j = 0; j < n; ++j) {
      const T slope =
          activation == Activation::softmax ? p(i, j) * (g(j) - mean) : p(i, j) * (T(1) - p(i, j) / T(alpha)) * g(j);
      dl(i, j) = slope + T(z_scale) * T(2) * lse * softmax[static_cast<size_t>(j)];
    }
  }
}

}  // namespace mor::ref
